"""Portico: the front door of a language model.

bytes -> protocols -> prompting -> engines -> decoding -> parsing -> protocols -> bytes
"""

__version__ = "0.2.0"
