r"""Custom tools: their input is free text, or text of a grammar that the client wrote.

A custom tool travels as a function with one string argument, ``input``, in the family's own framing. So its grammar has
to be held in the spelling that the framing has for strings: inside JSON with JSON's escapes, between tags as it is. The
client's Lark is therefore read into tokens, and what spells text in them, strings and regular expressions, is written
anew; all else stays. A JSON string has exactly one spelling for each text here, that of ``json.dumps``.

A grammar that does not lead back to itself becomes one terminal, which is one regular expression to the lexer: then it
is held exactly, and may end before any closing tag. Else terminals take as much text as they can, as llguidance has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from portico.constraints import regex
from portico.constraints.limits import Limits
from portico.errors import BadRequestError

__all__ = ["INPUT", "KEYWORD", "Input", "input_grammar", "input_schema"]

INPUT = "input"  # the name of the one argument
KEYWORD = "x-portico-lark"  # in a schema of ours: the string's text is of this grammar

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|//[^\n]*|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<range>"(?:[^"\\\n]|\\.)*"\s*\.\.\s*"(?:[^"\\\n]|\\.)*")
      | (?P<string>"(?:[^"\\\n]|\\.)*"i?)
      | (?P<regex>/(?:\\.|[^/\\\n])+/[imslux]*)
      | (?P<import>%import[ \t]+common(?:\.(?P<name>[A-Z_]+)(?:[ \t]*->[ \t]*(?P<alias>_?[A-Z][A-Z0-9_]*))?
            |[ \t]*\((?P<names>[^)]*)\)))
      | (?P<ignore>%ignore\b)
      | (?P<alias_of>->[ \t]*[a-z_][a-z0-9_]*)
      | (?P<rule>[!?]{0,2}_?[a-z][_a-z0-9]*)
      | (?P<terminal>_?[A-Z][_A-Z0-9]*)
      | (?P<priority>\.[ \t]*-?[0-9]+(?=[ \t]*:))
      | (?P<number>[0-9]+)
      | (?P<mark>\.\.|[:|()\[\]{},*+?.~&])""",
    re.VERBOSE,
)
_DIGITS, _SIGN = "[0-9]+", "[+\\-]?"
_DECIMAL = r"(?:[0-9]+\.[0-9]*|\.[0-9]+)"
_FLOAT = rf"(?:[0-9]+[eE][+\-]?[0-9]+|{_DECIMAL}(?:[eE][+\-]?[0-9]+)?)"
_COMMON = {  # Lark's own library of terminals
    "DIGIT": "[0-9]", "HEXDIGIT": "[0-9A-Fa-f]", "INT": _DIGITS, "SIGNED_INT": _SIGN + _DIGITS, "DECIMAL": _DECIMAL,
    "FLOAT": _FLOAT, "SIGNED_FLOAT": _SIGN + _FLOAT, "NUMBER": f"(?:{_FLOAT}|{_DIGITS})",
    "SIGNED_NUMBER": f"{_SIGN}(?:{_FLOAT}|{_DIGITS})", "LCASE_LETTER": "[a-z]", "UCASE_LETTER": "[A-Z]",
    "LETTER": "[A-Za-z]", "WORD": "[A-Za-z]+", "CNAME": "[A-Za-z_][A-Za-z0-9_]*", "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+", "CR": r"\r", "LF": r"\n", "NEWLINE": r"(?:\r?\n)+", "ESCAPED_STRING": r'"(?:[^"\\\n]|\\.)*"',
    "SH_COMMENT": r"#[^\n]*", "CPP_COMMENT": r"//[^\n]*",
}  # fmt: skip


class Input(NamedTuple):
    """A grammar of an input in one spelling. ``terminal`` is the one that is all of it; None where it leads back to
    itself, and starts with the rule ``start``."""

    lark: str
    terminal: str | None


def input_schema(given: Any, param: str, limits: Limits) -> dict[str, Any]:
    """The schema of the arguments of a custom tool with this ``format``, as chat completions or Responses have it.

    Raises ``BadRequestError`` below ``param``.
    """
    text: dict[str, Any] = {"type": "string"}
    kind = given.get("type") if isinstance(given, Mapping) else "text" if given is None else None
    if kind == "grammar":
        param, given = (f"{param}.grammar", given["grammar"]) if "grammar" in given else (param, given)
        definition = given.get("definition") if isinstance(given, Mapping) else None
        if not isinstance(definition, str) or not 0 < len(definition) <= limits.grammar:
            raise _bad(f"{param}.definition", f"must be a string of 1 to {limits.grammar} characters")
        if given.get("syntax") not in ("lark", "regex"):
            raise _bad(f"{param}.syntax", "must be 'lark' or 'regex'")
        if given["syntax"] == "regex":
            definition = f"start: /{_slashed(definition)}/\n"
        text[KEYWORD] = definition
        input_grammar(definition, f"{param}.definition", as_json=True)
    elif kind != "text":
        raise _bad(f"{param}.type", "must be 'text' or 'grammar'")
    return {"type": "object", "properties": {INPUT: text}, "required": [INPUT], "additionalProperties": False}


def input_grammar(definition: str, param: str, *, as_json: bool) -> Input:
    """A client's Lark grammar for texts as they are, or as a JSON string spells them.

    Raises ``BadRequestError`` on ``param``, naming the line, for what cannot be held.
    """
    tokens = _tokens(definition, param)
    leads = _leads(tokens)
    if "start" not in leads:
        raise _bad(param, "must have a rule 'start'")
    known = leads.keys() | {alias for token in tokens if token["import"] for alias, _ in _imported(token)}
    for token in tokens:
        name = (token["rule"] or token["terminal"] or "").lstrip("!?")
        if name and name not in known:
            raise _bad(param, f"mentions {name[:40]!r} in line {_line(definition, token)}, which is not defined")
    whole = not any(token.lastgroup == "ignore" for token in tokens) and not _circular(leads)
    written: list[str] = []
    for token in tokens:
        try:
            written.append(_written(token, whole=whole, as_json=as_json))
        except regex.UnheldError as error:
            raise _bad(param, f"has {error} in line {_line(definition, token)}, which cannot be enforced") from None
    return Input("".join(written).strip() + "\n", _terminal("start") if whole else None)


# -- reading ----------------------------------------------------------------------------------------------------------


def _tokens(definition: str, param: str) -> list[re.Match[str]]:
    found: list[re.Match[str]] = []
    at = 0
    while at < len(definition):
        token = _TOKEN.match(definition, at)
        if token is None:
            line = definition.count("\n", 0, at) + 1
            raise _bad(param, f"has something in line {line} that is not Lark, or is not supported in a custom tool")
        if token["space"] is None or token["space"][0] in " \t\r":
            found.append(token)
        at = token.end()
    return found


def _line(definition: str, token: re.Match[str]) -> int:
    return definition.count("\n", 0, token.start()) + 1


def _leads(tokens: list[re.Match[str]]) -> dict[str, set[str]]:
    """The names that each rule and terminal mentions."""
    leads: dict[str, set[str]] = {}
    inside: set[str] = set()
    fresh = True  # at the beginning of a line
    for index, token in enumerate(tokens):
        name = token["rule"] or token["terminal"]
        if name is not None and fresh and _is_defined(tokens, index):
            inside = leads.setdefault(name.lstrip("!?"), set())
        elif name is not None:
            inside.add(name)
        fresh = token["newline"] is not None or (fresh and token["space"] is not None)
    return leads


def _imported(token: re.Match[str]) -> list[tuple[str, str]]:
    """What an import is called here, and in Lark's library."""
    if token["names"]:
        return [(name.strip(), name.strip()) for name in token["names"].split(",")]
    return [(token["alias"] or token["name"], token["name"])]


def _is_defined(tokens: list[re.Match[str]], index: int) -> bool:
    """Whether a colon stands behind the name, or a priority and a colon."""
    return next((one[0] for one in tokens[index + 1 :] if not (one["space"] or one["priority"])), "") == ":"


def _circular(leads: Mapping[str, set[str]]) -> bool:
    rest = dict(leads)
    while ends := [name for name, mentioned in rest.items() if not mentioned & rest.keys()]:
        for name in ends:
            del rest[name]
    return bool(rest)


# -- writing ----------------------------------------------------------------------------------------------------------


def _written(token: re.Match[str], *, whole: bool, as_json: bool) -> str:
    """A token anew. ``whole``: rules become terminals."""
    text = token[0]
    match token.lastgroup:
        case "space":
            return " "
        case "string":
            return _string(text, as_json)
        case "range":
            first, last = (json.loads(one) for one in re.findall(r'"(?:[^"\\\n]|\\.)*"', text))
            return _expression(f"[{_escaped(first)}-{_escaped(last)}]", "", as_json)
        case "regex":
            body, _, flags = text[1:].rpartition("/")
            return _expression(body, flags, as_json)
        case "import":
            imported = _imported(token)
            if unknown := [name for _, name in imported if name not in _COMMON]:
                raise regex.UnheldError(f"an import of {unknown[0][:40]!r}")
            return "\n".join(f"{alias}: {_expression(_COMMON[name], '', as_json)}" for alias, name in imported)
        case "alias_of" | "priority":  # they say something of a tree, or of a choice that is never made here
            return ""
        case "rule":
            return _terminal(text.lstrip("!?")) if whole else text.lstrip("!")
        case "mark" if text == "~" and not as_json:
            return text
        case "mark" if text == "~":
            behind = token.string[token.end() :].lstrip(" \t")
            if not behind[:1].isdigit():
                raise regex.UnheldError("the operator ~")
    return text


def _terminal(rule: str) -> str:
    return f"R_{rule.upper()}"


def _string(text: str, as_json: bool) -> str:
    folded = text.endswith("i")
    value = json.loads(text.removesuffix("i"))
    if folded and value:
        return _expression(_escaped(value), "i", as_json)
    spelled = json.dumps(value, ensure_ascii=False)[1:-1] if as_json else value
    return json.dumps(spelled, ensure_ascii=False)


def _expression(pattern: str, flags: str, as_json: bool) -> str:
    tree = regex.exact(regex.read(pattern, "rust", flags))
    return f"/{regex.written(tree, as_json=as_json)}/" if tree != regex.Row(()) else '""'


def _escaped(text: str) -> str:
    return "".join(f"\\x{{{ord(character):x}}}" for character in text)


def _slashed(pattern: str) -> str:
    """An expression as it may stand between slashes on one line."""
    return re.sub(r"(\\.)|/", lambda found: found[1] or "\\/", pattern, flags=re.DOTALL).replace("\n", "\\n")


def _bad(param: str, problem: str) -> BadRequestError:
    return BadRequestError(f"{param} {problem}.", param=param, code="invalid_grammar")
