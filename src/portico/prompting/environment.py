"""The sandbox that chat templates run in: Jinja with the additions that Hugging Face's ``apply_chat_template`` makes.

Rules
    * An immutable sandbox: no underscore attributes, no mutation of the caller's data, no files, no imports.
    * ``trim_blocks`` and ``lstrip_blocks`` are on; ``{% break %}`` and ``{% continue %}`` exist.
    * ``{% generation %}`` marks what the model wrote, for training; rendering only needs its scope.
    * ``tojson`` is plain ``json.dumps`` without ASCII or HTML escaping; ``raise_exception(text)`` refuses a
      conversation; ``strftime_now(format)`` tells the time of the clock that the template was given.
    * Beyond Hugging Face, for templates written for other engines: the filters ``from_json`` and ``fromjson``; a
      template may append to a list that it wrote itself.
    * Loops, calls and everything that multiplies go through ``limits``.

Attribute access is most of what a template does, so the plain cases (a key of a dict, a method of a str, a field of
``loop`` or of a namespace) are decided here before Jinja's general rules are asked; the result is the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import BuiltinMethodType
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from portico.prompting import limits
from portico.values import MOST_VALUES, values

__all__ = ["ENVIRONMENT", "ChatEnvironment"]

_MISSING = object()
_DICT_METHODS = frozenset(dir(dict))
_SAFE_STR_METHODS = frozenset(name for name in dir(str) if not name.startswith(("_", "format")))
_LOOP_FIELDS = frozenset(name for name in dir(LoopContext) if not name.startswith("_"))
_MUTATES = re.compile(r"\.(?:append|extend|insert|pop|clear|remove|reverse|sort)\(")
_BINARY = {"+": limits.add, "*": limits.times, "**": limits.power, "%": limits.modulo}


class GenerationTag(jinja2.ext.Extension):
    """``{% generation %}…{% endgeneration %}``: the body, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own spelling)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class OwnList(list[Any]):
    """A list that the template wrote itself, and may change."""


class Bounds(NodeTransformer):
    """Sends what loops run over, and what ``~`` joins, through ``limits``; by filters no template can name.

    ``own_lists`` makes lists written in the template ``OwnList``s.
    """

    def __init__(self, own_lists: bool) -> None:
        self.own_lists = own_lists

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        self.generic_visit(node)
        return nodes.Filter(node, "own list", [], [], None, None, lineno=node.lineno) if self.own_lists else node

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "loop over", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "~", [], [], None, None, lineno=node.lineno)


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
    limits.bounded(values(text), MOST_VALUES)
    return json.loads(text)


def raise_exception(message: str) -> None:
    """A template's way to refuse a conversation: ``message`` reaches the client."""
    raise TemplateError(str(message))


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The one environment of all chat templates; ``strftime_now`` is a global of each template."""

    intercepted_binops = frozenset(_BINARY)
    concat = staticmethod(limits.concat)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols], cache_size=0
        )
        self.filters.update(tojson=tojson, from_json=from_json, fromjson=from_json)
        self.filters.update(limits.bounded_filters(self.filters))
        self.filters.update({"loop over": limits.turns, "~": limits.join, "own list": OwnList})
        self.globals.update(raise_exception=raise_exception, namespace=PlainNamespace)
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        bounded: nodes.Template = Bounds(bool(_MUTATES.search(source))).visit(super()._parse(source, name, filename))
        return bounded

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if type(obj) is OwnList and not attr.startswith("_"):
            return True
        return super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        kind = type(obj)
        if kind is dict and attribute not in _DICT_METHODS:
            value = obj.get(attribute, _MISSING)
            return self.undefined(obj=obj, name=attribute) if value is _MISSING else value
        if (
            (kind is str and attribute in _SAFE_STR_METHODS)
            or (kind is LoopContext and attribute in _LOOP_FIELDS)
            or (kind is PlainNamespace and not attribute.startswith("_"))
        ):
            value = getattr(obj, attribute, _MISSING)
            if value is not _MISSING:
                return value
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) is dict and type(argument) is str and argument not in _DICT_METHODS:
            value = obj.get(argument, _MISSING)
            return self.undefined(obj=obj, name=argument) if value is _MISSING else value
        if type(argument) is int and type(obj) is list and -len(obj) <= argument < len(obj):
            return obj[argument]
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Jinja's own spelling of the parameters: a template's keyword arguments must not collide with them
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str:
            if __obj.__name__ in limits.GROWING_METHODS:
                limits.bounded_method(__obj.__self__, __obj.__name__, args)
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return __obj(*args, **kwargs)
        limits.tick()
        if getattr(__obj, "__name__", "") in ("format", "format_map"):
            limits.bounded_method(str(getattr(getattr(__obj, "__wrapped__", None), "__self__", "")), "format", args)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:
            made = left + right
            if len(made) > limits.MAX_CHARACTERS:
                limits.bounded(len(made))
            return made
        return _BINARY[operator](left, right)

    def call_filter(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        context: Context | None = None,
        eval_ctx: nodes.EvalContext | None = None,
    ) -> Any:
        limits.tick()
        return super().call_filter(name, value, args, kwargs, context, eval_ctx)


ENVIRONMENT = ChatEnvironment()
