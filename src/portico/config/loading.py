"""Where settings are read: flags, variables, a file. What nobody knows is refused, with what was probably meant."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from portico.config.model import ModelSettings, SamplingDefaults
from portico.config.settings import FILE, Settings
from portico.errors import BadRequestError
from portico.spelling import meant

__all__ = ["load_settings"]


def load_settings(flags: dict[str, Any], config_file: Path | None = None) -> Settings:
    """The settings in force; ``flags`` holds only what was given. Raises ``pydantic.ValidationError``, or
    ``BadRequestError`` for a file that is not there or no TOML, and for a variable whose name is misspelt."""
    _refuse_misspelt(os.environ)
    if config_file is not None and not os.access(config_file, os.R_OK):
        raise BadRequestError(f"{config_file} cannot be read. Make it readable, or leave --config out.")
    token = FILE.set(config_file)
    try:
        return Settings(**flags)
    except ValidationError as error:
        _refuse_unknown(error, config_file)
        raise
    except ValueError as error:  # what the readers of TOML raise
        raise BadRequestError(f"{config_file} is not valid TOML: {error}. Mend it, or leave --config out.") from None
    finally:
        FILE.reset(token)


def _refuse_unknown(error: ValidationError, config_file: Path | None) -> None:
    """Raise for what the file sets and nothing here knows; other faults are told by whoever called."""
    for problem in error.errors(include_url=False):
        if problem["type"] == "extra_forbidden":
            *inside, name = map(str, problem["loc"])
            known = [*ModelSettings.model_fields, *SamplingDefaults.model_fields] if inside else Settings.model_fields
            near = meant(name, known)
            hint = f"did you mean {near}?" if near else "leave it out."
            whole = ".".join([*inside, name])
            raise BadRequestError(f"There is no setting '{whole}', which {config_file} sets; {hint}") from None


def _refuse_misspelt(names: Iterable[str]) -> None:
    """A variable that is nearly a setting's would be passed over in silence. Others may have our prefix: let them."""
    known = [name.upper() for name in Settings.model_fields]
    for name in names:
        prefix, _, setting = name.upper().partition("_")
        if prefix == "PORTICO" and setting not in known:
            near = meant(setting, known, nearness=0.75)
            if near:
                raise BadRequestError(f"There is no setting for the variable {name}; did you mean PORTICO_{near}?")
