"""A tree made fit for a grammar (no anchors, no endless repetition) and written in Rust's syntax."""

from __future__ import annotations

from dataclasses import replace

from portico.constraints.regex.tree import ANYTHING, JSON, Chars, Edge, Node, Options, Row, Times, UnheldError, quoted

NARROW = 256  # how often something without letters may be repeated that a pattern repeats without end
_PLAIN = r'[^"\\\x{0}-\x{1f}]'


def whole(node: Node) -> Node:
    """The expression for all strings in which ``node`` is found: without anchors. Raises ``UnheldError``."""
    return _unanchored(_unanchored(node, "^", ANYTHING), "$", ANYTHING)


def exact(node: Node) -> Node:
    """The expression for all strings that ``node`` matches from end to end: without anchors."""
    return _unanchored(_unanchored(node, "^", Row(())), "$", Row(()))


def bounded(node: Node, narrow: int = NARROW, wide: int | None = None) -> Node:
    """The same, but what repeats digits, signs or blanks without end does so ``narrow`` times: models run on there.
    What repeats anything else does so ``wide`` times (None: without end)."""
    match node:
        case Row(parts):
            return Row(tuple(bounded(part, narrow, wide) for part in parts))
        case Options(options):
            return Options(tuple(bounded(option, narrow, wide) for option in options))
        case Times(part, low, None) if not _has_letters(part):
            return Times(bounded(part, narrow, wide), low, max(low, narrow))
        case Times(part, low, None) if wide is not None:
            return Times(bounded(part, narrow, wide), low, max(low, wide))
        case Times(part):
            return replace(node, part=bounded(part, narrow, wide))
    return node


def _has_letters(node: Node) -> bool:
    match node:
        case Chars():
            return node.letters
        case Row(inside) | Options(inside):
            return any(map(_has_letters, inside))
        case Times(part):
            return _has_letters(part)
    return False


def written(node: Node, *, as_json: bool = False) -> str:
    """The expression in Rust's syntax, to stand alone or in a group. ``node`` has no anchors."""
    match node:
        case Chars():
            text = _spelled(node) if as_json else node.set_
            return f"(?i:{text})" if node.folded else text
        case Row(parts):
            return "".join(_grouped(part, as_json) if isinstance(part, Options) else written(part, as_json=as_json)
                           for part in parts)  # fmt: skip
        case Options(options):
            return "|".join(written(option, as_json=as_json) for option in options)
        case Times(part, low, high):
            marks = {(0, None): "*", (1, None): "+", (0, 1): "?"}
            count = f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"
            inside = written(part) if isinstance(part, Chars) and not as_json else _grouped(part, as_json)
            return f"{inside}{marks.get((low, high), count)}"
    raise UnheldError("an anchor inside")


def _grouped(node: Node, as_json: bool) -> str:
    return f"(?:{written(node, as_json=as_json)})"


def _spelled(chars: Chars) -> str:
    """The characters of a set as a JSON string spells them."""
    if not chars.escapes:
        return chars.set_
    single = not chars.set_.startswith("[")
    spellings = [] if single else [f"[{chars.set_}&&{_PLAIN}]"]
    short = "".join(quoted(JSON[one][1]) for one in sorted(chars.escapes) if len(JSON[one]) == 2)
    spellings += [rf"\\[{short}]"] if short else []
    for digit in "01":
        if last := "".join(JSON[one][-1] for one in sorted(chars.escapes) if JSON[one].startswith(f"\\u00{digit}")):
            spellings.append(rf"\\u00{digit}[{last}]")
    return spellings[0] if len(spellings) == 1 else f"(?:{'|'.join(spellings)})"


def _has(node: Node, mark: str) -> bool:
    match node:
        case Edge():
            return node.mark == mark
        case Row(inside) | Options(inside):
            return any(_has(one, mark) for one in inside)
        case Times(part):
            return _has(part, mark)
    return False


def _unanchored(node: Node, mark: str, beyond: Node) -> Node:
    """``node`` without its anchor at one end (``^`` or ``$``); where it has none, with ``beyond`` there."""
    match node:
        case Edge() if node.mark == mark:
            return Row(())
        case Options(options):
            return Options(tuple(_unanchored(option, mark, beyond) for option in options))
        case Row(parts) if _has(node, mark):
            first, rest = (parts[0], parts[1:]) if mark == "^" else (parts[-1], parts[:-1])
            if any(_has(part, mark) for part in rest):
                raise UnheldError("an anchor in the middle")
            edge = _unanchored(first, mark, beyond)
            return Row((edge, *rest) if mark == "^" else (*rest, edge))
    return Row((beyond, node) if mark == "^" else (node, beyond))
