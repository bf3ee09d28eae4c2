"""Makes ``support`` importable from every test module, and no test depend on how fast a machine is."""

from __future__ import annotations

import functools
import logging
import os
import sys
from pathlib import Path

import httpx._config
import httpx._transports.default as transports
from hypothesis import settings

os.environ["PORTICO_STORE"] = "none"  # but where a test names one: not the user's own

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support.bert import minilm_checkpoint  # noqa: F401  (a fixture for every test)
from support.effort import examples
from support.models import minilm_path, smollm2_path  # noqa: F401  (fixtures for every test)
from support.openai_client import client  # noqa: F401  (a fixture for modules with a ``server``)
from support.wait import SAFETY

# Hundreds of processes start here: each would compile all that it imports where Python is told to keep no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Every client reads the certificates of the world, for 70 ms of processor time; those of the tests speak plain HTTP.
vars(transports)["create_ssl_context"] = functools.cache(vars(transports)["create_ssl_context"])

# Nothing is waited for for only five seconds.
vars(httpx._config)["DEFAULT_TIMEOUT_CONFIG"].__init__(SAFETY)

logging.getLogger("portico").setLevel(logging.INFO)  # what is logged is written, so that what cannot be is seen

settings.register_profile("portico", deadline=None, max_examples=examples(40))
settings.load_profile("portico")
