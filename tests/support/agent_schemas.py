"""Tool schemas as agents and their libraries write them, in every generator's manner: the corpus of the laws."""

from __future__ import annotations

from typing import Any

_EMAIL = (  # as zod writes e-mail addresses
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
)


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


SCHEMAS: dict[str, dict[str, Any]] = {
    "shell": _object("command", command=_text(description="What to run"), timeout={"type": "number"},
                     run_in_background={"type": "boolean"}, description=_text()),
    "edit": _object("file_path old_string new_string", file_path=_text(), old_string=_text(), new_string=_text(),
                    replace_all={"type": "boolean", "default": False}),
    "search": _object("pattern", pattern=_text(), path=_text(), glob=_text(), multiline={"type": "boolean"},
                      output_mode={"type": "string", "enum": ["content", "files_with_matches", "count"]},
                      head_limit={"type": "number"}, **{"-A": {"type": "number"}, "-i": {"type": "boolean"}}),
    "todo": _object("todos", todos={"type": "array", "items": _object(
        "content status", content=_text(minLength=1), status=_text(enum=["pending", "in_progress", "completed"]),
        activeForm=_text(minLength=1))}),
    "fetch": _object("url prompt", url=_text(format="uri"), prompt=_text()),
    "argv": _object("command", command={"type": "array", "items": _text()}, workdir=_text(),
                    timeout_ms={"type": "integer"}),
    "mail": _object("to subject", to=_text(format="email", pattern=_EMAIL), subject=_text(maxLength=200), body=_text(),
                    cc={"type": "array", "items": _text(format="email"), "maxItems": 5}),
    "calendar": _object("start end", start=_text(format="date-time"), end=_text(format="date-time"),
                        reminder=_text(format="duration"), at=_text(format="time"), day=_text(format="date"),
                        attendees={"type": "array", "items": _text(format="email")}),
    "host": _object("name", name=_text(format="hostname"), v4=_text(format="ipv4"), v6=_text(format="ipv6"),
                    id=_text(format="uuid"), port={"type": "integer", "minimum": 1, "maximum": 65535}),
    "pydantic": {
        "$defs": {
            "Address": {"properties": {"street": {"title": "Street", "type": "string"},
                                       "zip": {"anyOf": [_text(pattern=r"^\d{5}(-\d{4})?$"), {"type": "null"}],
                                               "default": None}}, "required": ["street"], "title": "Address",
                        "type": "object"},
            "Color": {"enum": ["red", "green"], "title": "Color", "type": "string"},
        },
        "properties": {"address": {"$ref": "#/$defs/Address"}, "color": {"allOf": [{"$ref": "#/$defs/Color"}]},
                       "tags": {"items": {"type": "string"}, "type": "array", "uniqueItems": True},
                       "scores": {"additionalProperties": {"type": "number"}, "type": "object"}},
        "required": ["address"], "title": "Order", "type": "object",
    },
    "go": {"type": "object", "properties": {"path": {"type": "string", "enum": None, "items": None}}, "required": None,
           "additionalProperties": None, "$defs": None},
    "openapi": {"type": "object", "properties": {
        "amount": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True},
        "method": {"oneOf": [{"type": "string", "enum": ["card"]}, {"type": "object", "properties": {
            "iban": _text(pattern="^[A-Z]{2}[0-9]{2}[A-Z0-9]+$")}, "required": ["iban"]}]}}},
    "patterns": _object("sku phone", sku=_text(pattern=r"^[A-Z]+-\d+$"), phone=_text(pattern=r"^\+?[\d ()-]+$"),
                        slug=_text(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$"), nonblank=_text(pattern=r"\S")),
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": _object(
        "name", name=_text(), children={"type": "array", "items": {"$ref": "#/$defs/node"}})}},
    "linked": {"type": "object", "properties": {"value": {"type": "integer"},
                                                "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
               "required": ["value", "next"]},
    "expression": {
        "$ref": "#/$defs/term",
        "$defs": {"term": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/sum"}]},
                  "sum": _object("left right", left={"$ref": "#/$defs/term"}, right={"$ref": "#/$defs/term"})},
    },
    "free": {"type": "object"},
    "anything": {},
    "map": {"type": "object", "additionalProperties": _object("n", n={"type": "integer"})},
    "named map": {"type": "object", "patternProperties": {"^x-": {"type": "boolean"}}, "additionalProperties": False},
    "untyped": {"properties": {"q": {"minLength": 1}, "n": {"minimum": 0}, "l": {"minItems": 1}, "p": {"pattern": "^a"},
                               "e": {"description": "no type at all"}}, "required": ["q", "n", "l", "p", "e"]},
    "several types": _object("v", v={"type": ["string", "integer", "array", "object", "null"]}),
    "tuple": {"type": "array", "prefixItems": [_text(), {"type": "number"}], "items": {"type": "integer"}},
    "exact number": _object("n", n={"type": "number", "minimum": 1, "maximum": 1}),
}  # fmt: skip
