"""What a template's syntax tree says about it, without running it.

``content_format``: does the template walk through a message's content (``openai``: a list of typed parts) or take it
as one text (``string``)? What holds the messages, a message or its content is followed through assignments, loops,
namespaces, filters and macro parameters until nothing new is found; a loop over content, or a typed look into it,
decides.

``variables``: the names the template reads and does not set on every way through; the only ones worth passing to it.

``literals``: for the variables about reasoning, the texts they are compared with: the words that they accept.

``texts`` and ``operations``: the ends of all texts that stand in the template, and the filters and methods it uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from jinja2 import meta, nodes

from portico.prompting.environment import ENVIRONMENT

__all__ = ["Syntax", "read_syntax"]

ContentFormat = Literal["string", "openai"]
Node = TypeVar("Node", bound=nodes.Node)
MESSAGES, MESSAGE, CONTENT = "messages", "message", "content"
PART_FILTERS = frozenset({"selectattr", "rejectattr", "map", "groupby"})
SAME = frozenset({"list", "reverse", "default", "d", "sort", "select", "reject", "selectattr", "rejectattr"})


END = 64  # characters; no control token known is longer
SWITCH = re.compile(r"think|reason|effort")  # how variables about reasoning are named


@dataclass(frozen=True)
class Syntax:
    """See the head of this file."""

    content_format: ContentFormat
    variables: frozenset[str]
    literals: Mapping[str, frozenset[str]]
    texts: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()


class _Tree:
    """The nodes of a template by their kind, found in one walk: all questions are asked of these."""

    def __init__(self, root: nodes.Template) -> None:
        self._found: dict[type[nodes.Node], list[Any]] = {}
        waiting: list[nodes.Node] = [root]
        while waiting:
            node = waiting.pop()
            self._found.setdefault(type(node), []).append(node)
            waiting.extend(node.iter_child_nodes())

    def __getitem__(self, kind: type[Node]) -> Sequence[Node]:
        return self._found.get(kind, ())


def read_syntax(source: str) -> Syntax:
    """Analyse a template that compiles."""
    root = ENVIRONMENT.parse(source)
    tree = _Tree(root)
    literals = _literals(tree, {name.name for name in tree[nodes.Name] if SWITCH.search(name.name)})
    content_format, texts, operations = _content_format(tree), _texts(tree), _operations(tree)
    variables = frozenset(meta.find_undeclared_variables(root))  # last: it folds the tree
    literals = {name: found for name, found in literals.items() if name in variables}
    return Syntax(content_format, variables, literals, texts, operations)


def _texts(tree: _Tree) -> frozenset[str]:
    constants = (constant.value for constant in tree[nodes.Const] if isinstance(constant.value, str))
    return frozenset(text[-END:] for text in (*constants, *(data.data for data in tree[nodes.TemplateData])))


def _operations(tree: _Tree) -> frozenset[str]:
    filters = {use.name for use in tree[nodes.Filter]}
    return frozenset(filters | {call.node.attr for call in tree[nodes.Call] if hasattr(call.node, "attr")})


def _literals(tree: _Tree, names: set[str]) -> dict[str, frozenset[str]]:
    """For each name: the texts that the template compares it with (or what was made of it), or looks it up among."""
    if not names:
        return {}
    made = [(node.target.name, _names(node.node)) for node in tree[nodes.Assign] if isinstance(node.target, nodes.Name)]
    compared = []
    for compare in tree[nodes.Compare]:
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        texts = {found.value for side in sides for found in _all(side, nodes.Const) if isinstance(found.value, str)}
        compared.append((frozenset[str]().union(*map(_names, sides)), texts))
    literals = {}
    for name in names:
        known = {name, *(target for target, mentioned in made if name in mentioned)}
        literals[name] = frozenset[str]().union(*(texts for mentioned, texts in compared if mentioned & known))
    return literals


def _names(node: nodes.Node) -> frozenset[str]:
    return frozenset(name.name for name in _all(node, nodes.Name))


def _all(node: nodes.Node, kind: type[Node]) -> list[Node]:
    """The nodes of this kind in an expression, itself included."""
    return [node] if isinstance(node, kind) else list(node.find_all(kind))


def _content_format(tree: _Tree) -> ContentFormat:
    follow = _Follower(tree)
    return "openai" if follow.walks_content() else "string"


class _Follower:
    """Which names hold the messages, a message, or its content; grown until it stays the same."""

    def __init__(self, tree: _Tree) -> None:
        self.tree = tree
        self.held: dict[str, set[str]] = {"messages": {MESSAGES}}
        self.macros = {macro.name: macro for macro in tree[nodes.Macro]}
        before = -1
        while before != (before := sum(map(len, self.held.values()))):
            self._grow()

    def walks_content(self) -> bool:
        for loop in self.tree[nodes.For]:
            if CONTENT in self.kinds(loop.iter):
                return True
        for look in self.tree[nodes.Filter]:
            if look.node is not None and look.name in PART_FILTERS and CONTENT in self.kinds(look.node):
                return True
        for item in self.tree[nodes.Getitem]:  # content[0]['text'], content[0].text
            if isinstance(item.node, nodes.Getitem) and self._indexed(item.node):
                return True
        return any(
            isinstance(item.node, nodes.Getitem) and self._indexed(item.node)
            for item in self.tree[nodes.Getattr]
            if item.attr in ("text", "type")
        )

    def _indexed(self, item: nodes.Getitem) -> bool:
        return (
            isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, int) and CONTENT in self.kinds(item.node)
        )

    def _grow(self) -> None:
        for loop in self.tree[nodes.For]:
            if MESSAGES in self.kinds(loop.iter):
                self._hold(loop.target, {MESSAGE})
        for assign in self.tree[nodes.Assign]:
            self._hold(assign.target, self.kinds(assign.node))
        for call in self.tree[nodes.Call]:
            if not isinstance(call.node, nodes.Name):
                continue
            if call.node.name in ("namespace", "dict"):
                for pair in call.kwargs:
                    self._note(f".{pair.key}", self.kinds(pair.value))
            elif call.node.name in self.macros:
                macro = self.macros[call.node.name]
                for parameter, argument in zip(macro.args, call.args, strict=False):
                    self._note(parameter.name, self.kinds(argument))
                for pair in call.kwargs:
                    self._note(pair.key, self.kinds(pair.value))

    def _hold(self, target: nodes.Node, kinds: set[str]) -> None:
        if isinstance(target, nodes.Name):
            self._note(target.name, kinds)
        elif isinstance(target, nodes.NSRef):
            self._note(f".{target.attr}", kinds)
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self._hold(item, kinds)

    def _note(self, name: str, kinds: set[str]) -> None:
        if kinds:
            self.held.setdefault(name, set()).update(kinds)

    def kinds(self, node: nodes.Node | None) -> set[str]:
        """What an expression may hold."""
        if isinstance(node, nodes.Name):
            return self.held.get(node.name, set())
        if isinstance(node, nodes.Filter):
            if node.name in SAME or node.name == "loop over":
                return self.kinds(node.node)
            return self._element(self.kinds(node.node)) if node.name in ("first", "last") else set()
        if isinstance(node, nodes.Getattr):
            return self._field(self.kinds(node.node), node.attr) | self.held.get(f".{node.attr}", set())
        if isinstance(node, nodes.Getitem):
            if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
                return self._field(self.kinds(node.node), node.arg.value)
            if isinstance(node.arg, nodes.Slice):
                return self.kinds(node.node)
            return self._element(self.kinds(node.node))
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "get":
            key = node.args[0] if node.args else None
            if isinstance(key, nodes.Const) and isinstance(key.value, str):
                return self._field(self.kinds(node.node.node), key.value)
            return set()
        if isinstance(node, nodes.CondExpr):
            return self.kinds(node.expr1) | (self.kinds(node.expr2) if node.expr2 else set())
        if isinstance(node, nodes.Or | nodes.And | nodes.Add):
            return self.kinds(node.left) | self.kinds(node.right)
        return set()

    def _field(self, kinds: set[str], name: str) -> set[str]:
        return {CONTENT} if MESSAGE in kinds and name == "content" else set()

    def _element(self, kinds: set[str]) -> set[str]:
        return {MESSAGE} if MESSAGES in kinds else set()
