"""The kinds of recovery that readers make, and why each may be made."""

from __future__ import annotations

__all__ = ["WHY"]

WHY = {
    "a backslash that escapes nothing": "JSON has no such escape, so the backslash is a character of the text",
    "a call as another family writes it": "its tool is declared, and models are trained on each other's output",
    "a call without its opener": "its tool is declared, and nothing else stands in its place",
    "a closer with nothing open": "a closer alone means nothing",
    "a colon left out": "behind a key nothing else can stand",
    "a comma left out": "behind a value another key or value can only be the next one",
    "a group in front of a name": "the name behind it is declared",
    "a header without its end": "what follows can only be its message",
    "a key without a value": "it is no member, so it is text behind the call",
    "a marker with nothing in it": "what follows is markup too, so it is neither text nor a call",
    "a marker twice": "with nothing between, the second says what the first said",
    "a name without its group": "it is declared",
    "a thought's closer without a thought": "nothing is open that it could close, and markers are never shown",
    "a value that is no literal": "its text is all that is known of it, so it is given as that",
    "a value without its closer": "what follows can only be structure, so the value has ended",
    "a value without quotes": "it is neither a number nor a word of JSON",
    "another marker in place of a closer": "another parameter follows it, so the value has ended",
    "an equals sign in place of a colon": "behind a key nothing else can stand",
    "an opener in place of a closer": "nothing stands in it and something was open",
    "an opener that is nearly right": "the name in it is declared",
    "arguments beside the name": "the call has no other arguments",
    "arguments under another name": "the call has no other arguments",
    "arguments wrapped once more": "the tool has no parameter of that name",
    "brackets left open": "the call has ended, so they have",
    "brackets too many": "nothing is open that they could close",
    "JSON in place of the family's arguments": "it begins with a brace, and the tool is declared",
    "keys without quotes": "a word and a colon behind a brace can only be a key",
    "plain quotes in place of the family's": "a quote at the beginning of a value delimits it",
    "Python in place of JSON": "its keys stand in single quotes",
    "text in front of a section's first call": "a call follows, so the section is one",
    "text in place of arguments": "it is no object, so there is no call",
    "the name as the only key": "it is declared, and its value is an object",
}
