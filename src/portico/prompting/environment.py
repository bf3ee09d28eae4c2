"""The sandbox that chat templates run in: Jinja with the additions that Hugging Face's ``apply_chat_template`` makes.

Rules
    * An immutable sandbox: no underscore attributes, no mutation of the caller's data, no file system, no imports.
    * ``trim_blocks`` and ``lstrip_blocks`` are on; ``{% break %}`` and ``{% continue %}`` exist.
    * ``{% generation %}`` marks what the model wrote, for training; rendering only needs its scope.
    * ``tojson`` is plain ``json.dumps`` without ASCII or HTML escaping; ``raise_exception(text)`` refuses a
      conversation; ``strftime_now(format)`` tells the time of the clock that the template was given.
    * Beyond Hugging Face: the filters ``from_json`` and ``fromjson``, which templates written for other engines use.
"""

from __future__ import annotations

import json
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["ENVIRONMENT", "ChatEnvironment"]


class GenerationTag(jinja2.ext.Extension):
    """``{% generation %}…{% endgeneration %}``: the body, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own spelling)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class PlainNamespace(Namespace):
    """Jinja's ``namespace()`` that holds no underscore names, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        values = dict(*rest, **kwargs)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold the private name {name!r}")


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON text of ``value`` as transformers writes it: no HTML escaping, non-ASCII characters as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def from_json(text: str) -> Any:
    """The value that JSON ``text`` stands for."""
    return json.loads(text)


def raise_exception(message: str) -> None:
    """A template's way to refuse a conversation: ``message`` reaches the client."""
    raise TemplateError(str(message))


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The one environment of all chat templates; ``strftime_now`` is a global of each template."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols], cache_size=0
        )
        self.filters.update(tojson=tojson, from_json=from_json, fromjson=from_json)
        self.globals.update(raise_exception=raise_exception, namespace=PlainNamespace)


ENVIRONMENT = ChatEnvironment()
