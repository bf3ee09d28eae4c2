"""Command-line options made from the settings: one per field, so that flags, variables and docs cannot drift apart."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from portico.config import ModelSettings, Settings, load_settings
from portico.errors import BadRequestError

__all__ = [
    "always_json",
    "completed",
    "model_argument",
    "reread",
    "setting_groups",
    "settings_from",
    "settings_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def settings_options(names: Iterable[str]) -> Callable[[Function], Function]:
    """Decorate a command with one option per named setting, and ``--config``."""

    def decorate(function: Function) -> Function:
        for name in reversed(list(names)):
            function = _option(name, Settings.model_fields[name])(function)
        config = click.option(
            "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file."
        )
        return config(function)

    return decorate


def setting_groups() -> Iterator[tuple[str, list[str]]]:
    """The settings' names, in groups as the comments between them in ``config/`` name these."""
    title, names = "", list[str]()
    source = inspect.getsource(ModelSettings) + inspect.getsource(Settings)
    for group, name in re.findall(r"^    (?:# (.+)|(\w+): )", source, re.MULTILINE):
        if group:
            if names:
                yield title, names
            title, names = group, []
        elif name in Settings.model_fields:
            names.append(name)
    yield title, names


def settings_from(config: Path | None, given: dict[str, Any]) -> Settings:
    """The settings in force, from the options that were given. Bad values end as a usage error."""
    flags = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value not in (None, ())
    }
    try:
        return load_settings(flags, config)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        raise click.UsageError(f"{name}: {problem['msg'].removeprefix('Value error, ')}") from None


def reread(config: Path | None, given: dict[str, Any]) -> Settings:
    """As ``settings_from``, for a command that goes on: raises ``BadRequestError`` for bad values."""
    try:
        return settings_from(config, given)
    except click.UsageError as error:
        raise BadRequestError(error.message) from None


class JsonObject(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A JSON object on the command line."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.fail("not a JSON object, such as '{\"enable_thinking\": false}'", param, ctx)
        return found


def _option(name: str, field: FieldInfo) -> Callable[[Function], Function]:
    flag = "--" + name.replace("_", "-")
    text = field.description or ""
    if field.default not in (None, [], {}, False, "") and not isinstance(field.default, BaseModel):
        text += f" [default: {field.default}]"
    text += f" [env: PORTICO_{name.upper()}]"
    kind = _plain_type(field.annotation)
    if kind is bool:
        return click.option(flag, name, is_flag=True, default=None, help=text)
    if kind is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return click.option(flag, name, type=JsonObject(), default=None, help=text)
    if kind is list:
        return click.option(flag, name, multiple=True, help=text)
    if isinstance(kind, click.ParamType):
        return click.option(flag, name, type=kind, default=None, help=text)
    kind = str if kind in (SecretStr, Path) else kind
    return click.option(flag, name, type=kind, default=None, help=text, shell_complete=completed(name))


def completed(name: str) -> Callable[..., Any] | None:
    """What completes the values of the parameter ``name``, if anything: imported when a shell asks for it."""
    if name not in _COMPLETED:
        return None
    return lambda *asked: getattr(import_module("portico.commands.completing"), _COMPLETED[name])(*asked)


def always_json(function: Function) -> Function:
    """Decorate a command that prints JSON in any case with ``--json``, which every command takes."""
    return click.option("--json", is_flag=True, expose_value=False, help="JSON, as in any case.")(function)


def model_argument(required: bool = False) -> Callable[[Function], Function]:
    """Decorate a command with ``MODEL``."""
    return click.argument("model", required=required, shell_complete=completed("model"))


_COMPLETED = {
    "model": "model_names",
    "embedding_model": "model_names",
    "tool_parser": "tool_parsers",
    "reasoning_parser": "reasoning_parsers",
    "format": "format_names",
}


def _plain_type(annotation: Any) -> Any:
    """The click type of a field: ``int | None`` -> int, ``list[...]`` -> list, ``Literal`` -> a choice."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _plain_type(next(one for one in typing.get_args(annotation) if one is not type(None)))
    if origin is typing.Annotated:
        return _plain_type(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return click.Choice(typing.get_args(annotation))
    return origin or annotation
