"""The few names of vLLM that Portico's engine touches, over a core that counts: for tests where there is no vLLM.

A model called ``seeing`` takes images. One called ``unservable`` cannot be loaded, and an adapter whose directory is
called ``misfit`` neither. A request is answered with its prompt's tokens, one a step. A prompt that begins with
``DEADLY`` kills the core, one with ``DEADLY_FOR_ONE`` one of several cores, and one with ``STALLING`` hangs it. The
core starts a process that it never ends. What is asked of it, and that process's number, is appended to the file that
``FAKE_VLLM_LOG`` names, a JSON object a line. It is the version that ``FAKE_VLLM_VERSION`` names, and takes
``FAKE_VLLM_LOADING`` seconds to load.
"""

import os

__version__ = os.environ.get("FAKE_VLLM_VERSION", "0.32.0")
