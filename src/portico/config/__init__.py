"""One settings object: command-line flags, ``PORTICO_*`` variables, a TOML file, in this order of precedence.

Each setting is declared once, in ``model.py`` or ``settings.py``; the command line, the environment and the
documentation are made from it. ``loading.py`` reads them.
"""

from __future__ import annotations

from portico.config.loading import load_settings
from portico.config.model import ModelSettings, SamplingDefaults
from portico.config.settings import Settings

__all__ = ["ModelSettings", "SamplingDefaults", "Settings", "load_settings"]
