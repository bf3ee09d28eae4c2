"""Files in messages: found wherever they stand, and read as what they are; what cannot be read is told by its place."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import BadRequestError, NotSupportedError, PorticoError
from portico.protocols.attachments import SHOWN, Attachment, attachments, decoded, image_part, placed, tagged, text_of

DATA = base64.b64encode(b"Hello").decode()
# a part -> where in it stands which file it is, and what it says
PARTS: list[tuple[dict[str, Any], str, tuple[str | None, str | None, str | None, bool]]] = [
    ({"type": "file", "file": {"file_id": "f"}}, ".file.file_id", ("f", None, None, False)),
    ({"type": "file", "file": {"file_data": DATA, "filename": "n"}}, ".file.file_data", (None, DATA, "n", False)),
    ({"type": "file", "file_id": "f", "file_data": None}, ".file_id", ("f", None, None, False)),
    ({"type": "input_file", "file_id": "f", "filename": "n"}, ".file_id", ("f", None, "n", False)),
    ({"type": "input_file", "file_data": DATA, "file_url": None}, ".file_data", (None, DATA, None, False)),
    ({"type": "input_file", "file_id": "f", "file": {"file_id": "g"}}, ".file_id", ("f", None, None, False)),
    ({"type": "input_image", "file_id": "f", "detail": "low"}, ".file_id", ("f", None, None, True)),
]
NONE = [
    {"type": "text", "text": "a"},
    {"type": "input_image", "image_url": "u"},
    {"type": "input_image", "file_id": ""},
    {"type": "image_file", "file_id": "f"},
    {"file_id": "f"},
    "file",
    None,
]
BEFORE: list[Any] = [{"role": "system", "content": "s"}, "no message", {"role": "user"}]
AFTER: list[tuple[list[Any], bool]] = [  # what follows, and whether nobody can take the file back by then
    ([], False),
    ([{"role": "assistant", "content": "b"}, None], False),
    ([{"role": "user", "content": "c"}], True),
    ([{"role": "assistant", "content": "b"}, {"role": "user", "content": []}, {"role": "tool"}], True),
]


@pytest.mark.parametrize(("part", "place", "said"), PARTS)
@pytest.mark.parametrize(("after", "given"), AFTER)
def test_every_file_is_found_where_it_stands(part: Any, place: str, said: Any, after: list[Any], given: bool) -> None:
    messages = [*BEFORE, {"role": "user", "content": [*NONE, part]}, *after]
    path = f"messages[{len(BEFORE)}].content[{len(NONE)}]"
    found = Attachment(len(BEFORE), len(NONE), path, path + place, given, *said)
    assert attachments(messages) == [found]
    assert attachments(messages, images=False) == ([] if found.image else [found])


def test_all_of_them_in_their_order() -> None:
    content = [part for part, _, _ in PARTS]
    messages = [{"role": role, "content": content} for role in ("assistant", "user", "tool", "developer")]
    found = attachments(messages)
    assert [(one.message, one.part) for one in found] == [(m, p) for m in range(4) for p in range(len(PARTS))]
    assert [one.given for one in found] == [one.message != 1 for one in found]
    alone = [{"role": role, "content": content} for role in ("assistant", "tool")]
    assert all(one.given for one in attachments(alone)), "no user has said anything"


WRONG: list[tuple[dict[str, Any], str, str]] = [  # a part, the place that is at fault, and what is told
    ({"type": "file", "file": 7}, ".file", "must be an object"),
    ({"type": "file", "file": None}, ".file", "must be an object"),
    ({"type": "file", "file": {}}, ".file", "must have one of file_id and file_data"),
    ({"type": "file"}, "", "must have one of file_id and file_data"),
    ({"type": "input_file", "file_id": "f", "file_data": DATA}, "", "must have one of file_id and file_data"),
    ({"type": "input_file", "file_url": "u"}, ".file_url", "not fetched by URL"),
    ({"type": "input_file", "file_url": "u", "file_id": "f"}, ".file_url", "not fetched by URL"),
    *(
        ({"type": "file", "file": {"file_id": "f", key: wrong}}, f".file.{key}", "must be text")
        for key in ("file_id", "file_data", "file_url", "filename")
        for wrong in (0, False, ["a"], {})
    ),
    *(({"type": "input_image", "file_id": wrong}, ".file_id", "must be text") for wrong in (7, True, ["f"])),
]


@pytest.mark.parametrize(("part", "place", "said"), WRONG)
def test_what_is_malformed_is_told_by_its_place(part: Any, place: str, said: str) -> None:
    with pytest.raises(PorticoError, match=said) as caught:
        attachments([{"role": "user", "content": ["x", part]}])
    assert type(caught.value) is (NotSupportedError if "URL" in said else BadRequestError)
    assert caught.value.param == f"messages[0].content[1]{place}"
    assert caught.value.message.startswith("messages[0].content[1]")


def attached(**more: Any) -> Attachment:
    return Attachment(0, 0, "here", "here.file_data", False, None, **{"file_data": None, "filename": None, **more})


@given(st.binary())
def test_bytes_come_as_they_were_sent(data: bytes) -> None:
    written = base64.b64encode(data).decode()
    quoted = "".join(f"%{byte:02X}" for byte in data)
    forms = (written, f"data:;base64,{written}", f"DATA:text/plain;charset=x;BASE64,{written}", f"data:,{quoted}")
    for form in forms:
        assert decoded(attached(file_data=form)) == data


@pytest.mark.parametrize(
    "data", ["a", "a b=", "eA==\n", "data:;base64", "data:;base64,%41", "ü", "data:;base64,eA==,x"]
)
def test_what_is_no_base64_is_refused(data: str) -> None:
    if data == "data:;base64":  # a header alone, of nothing
        assert decoded(attached(file_data=data)) == b""
        return
    with pytest.raises(BadRequestError, match=r"here\.file_data must be base64") as caught:
        decoded(attached(file_data=data))
    assert caught.value.param == "here.file_data"


@given(st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])))
def test_any_text_is_read_in_every_encoding(text: str) -> None:
    for codec in ("utf-8-sig", "utf-16", "utf-8"):
        data = text.encode(codec)
        if data.startswith((b"%PDF-", b"PK\x03\x04", b"{\\rtf")):
            continue
        assert text_of(attached(), data, None) == f"<document>\n{text}\n</document>"
    big = b"\xfe\xff" + text.encode("utf-16-be")
    assert text_of(attached(), big, None) == f"<document>\n{text}\n</document>"


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7", b"PK\x03\x04", b"{\\rtf1 a}", b"\xff", b"a\0", b"\xff\xfea", "a\0".encode("utf-16")]
)
def test_what_is_no_text_is_refused_by_its_name(data: bytes) -> None:
    for own, stored, shown in (
        (None, None, "here: the file is"),
        ("mine", "theirs", "here: 'mine' is"),
        (None, "theirs", "here: 'theirs' is"),
        ("n" * 500, None, f"here: '{'n' * SHOWN}' is"),
    ):
        with pytest.raises(NotSupportedError) as caught:
            text_of(attached(filename=own), data, stored)
        assert caught.value.message.startswith(f"{shown} not a text file")
        assert caught.value.param == "here.file_data"


def test_a_document_is_called_by_its_name() -> None:
    assert text_of(attached(filename="mine"), b"a", "theirs") == '<document title="mine">\na\n</document>'
    assert text_of(attached(), b"a", "theirs") == '<document title="theirs">\na\n</document>'
    assert tagged("x", {"a": "1", "b": None, "c": "", "d": 3, "e": "2"}, "t") == '<x a="1" e="2">\nt\n</x>'


def test_other_parts_take_their_places() -> None:
    messages: list[Any] = [
        {"role": "user", "content": [1, 2], "name": "n"},
        "x",
        {"role": "user", "content": [3, 4, 5]},
    ]
    before = [dict(one) if isinstance(one, dict) else one for one in messages]
    found = placed(messages, {(2, 1): {"b": 2}, (2, 0): {"a": 1}, (0, 1): {"c": 3}})
    assert found == [
        {"role": "user", "content": [1, {"c": 3}], "name": "n"},
        "x",
        {"role": "user", "content": [{"a": 1}, {"b": 2}, 5]},
    ]
    assert messages == before
    image = image_part({"type": "input_image", "file_id": "f", "detail": "low"}, b"\x89PNG")
    url = "data:application/octet-stream;base64," + base64.b64encode(b"\x89PNG").decode()
    assert image == {"type": "input_image", "detail": "low", "image_url": url}
