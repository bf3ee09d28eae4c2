"""The form of an upload: the same whatever its pieces; malformed, cut off or too much of anything is one clear 400."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from portico.errors import BadRequestError, UnsupportedMediaTypeError
from portico.protocols.files import HEADERS, LONGEST_FIELD, PARTS, FileForm, UploadRequest

BOUNDARY = "b0undary"
TYPE = f'multipart/form-data; boundary="{BOUNDARY}"'
# what looks like a boundary and is none
DATA = b'{"a": 1}\r\n--b0undar\r\n\r\n--\r--b0undary\n\n--b0undary\r-\x00\xff' + bytes(range(256))

Part = tuple[str, bytes]


def form(*parts: Part, end: bool = True) -> bytes:
    """The form of parts, each the rest of a Content-Disposition (with more headers behind it) and a body."""
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), head.encode(), value)
        for head, value in parts
    )
    return body + (b"--%b--\r\n" % BOUNDARY.encode() if end else b"")


PURPOSE: Part = ('name="purpose"', b"batch")
FILE: Part = ('name="file"; filename="../../etc/\u2603.jsonl"\r\nContent-Type: application/jsonl', DATA)
SECONDS: Part = ('name="expires_after[seconds]"', b"3600")
ANCHOR: Part = ('name="expires_after[anchor]"', b"created_at")
ORDERS = [(PURPOSE, FILE), (FILE, PURPOSE), (SECONDS, FILE, ANCHOR, PURPOSE)]


def read(body: bytes, cuts: Sequence[int] = (), content_type: str | None = TYPE) -> tuple[bytes, UploadRequest]:
    """The file and the fields of a form that comes in pieces."""
    reader = FileForm(content_type, UploadRequest)
    edges = itertools.pairwise([0, *cuts, len(body)])
    found = b"".join(piece for start, end in edges for piece in reader.feed(body[start:end]))
    return found, reader.close()


def outcome(body: bytes, cuts: Sequence[int]) -> tuple[bytes, UploadRequest] | None:
    """None: it is refused."""
    try:
        return read(body, cuts)
    except BadRequestError:
        return None


@pytest.mark.parametrize("parts", ORDERS, ids=["fields first", "file first", "mixed"])
def test_any_cut_gives_the_same(parts: Sequence[Part]) -> None:
    body = form(*parts)
    file, request = read(body)
    assert file == DATA
    assert (request.file, request.purpose) == ("../../etc/\u2603.jsonl", "batch")
    assert (request.expires_after is not None) == (len(parts) == 4)
    for cut in range(len(body)):
        assert read(body, [cut]) == (file, request), cut
    assert read(body, range(1, len(body))) == (file, request)


@pytest.mark.parametrize("parts", ORDERS, ids=["fields first", "file first", "mixed"])
def test_cut_off_anywhere_is_a_400(parts: Sequence[Part]) -> None:
    body = form(*parts).removesuffix(b"\r\n")
    for end in range(len(body)):
        with pytest.raises(BadRequestError):
            read(body[:end])


def test_damage_is_a_400_or_harmless() -> None:
    """Bytes replaced, taken out and put in: it is a 400, or a form all the same, however it comes."""
    choices = random.Random(7)
    for _ in range(1_000):
        body = bytearray(form(*choices.choice(ORDERS)))
        for _ in range(choices.randint(1, 4)):
            at = choices.randrange(len(body))
            match choices.randrange(3):
                case 0:
                    body[at] = choices.choice(b'\r\n-:; "=\0\xff\\%b')
                case 1:
                    del body[at : at + choices.randint(1, 30)]
                case _:
                    body[at:at] = choices.choice((b"\r\n", b"\r\n--b0undary\r\n", b"\r\n--b0undary--", b'"', b"\xff"))
        cuts = sorted(choices.sample(range(len(body)), 3))
        outcomes = [outcome(bytes(body), how) for how in ((), cuts)]
        assert outcomes[0] == outcomes[1], "what it is depends on how it comes"


@pytest.mark.parametrize(
    ("body", "said"),
    {
        "empty": (b"", "cannot be read"),
        "no form": (b'{"purpose": "batch"}', "cannot be read"),
        "no parts": (form(), "'file'"),
        "no file": (form(PURPOSE), "'file'"),
        "no purpose": (form(FILE), "'purpose'"),
        "an unknown purpose": (form(FILE, ('name="purpose"', b"world peace")), "'purpose'"),
        "a purpose of ours": (form(FILE, ('name="purpose"', b"batch_output")), "'purpose'"),
        "two files": (form(FILE, FILE, PURPOSE), "two files"),
        "the wrong boundary": (form(FILE, PURPOSE).replace(b"b0undary", b"other"), "cannot be read"),
        "a large field": (form(FILE, ('name="purpose"', b"x" * (LONGEST_FIELD + 1))), "bytes"),
        "a field of noise": (form(FILE, ('name="purpose"', b"\xff\xfe")), "UTF-8"),
        "many parts": (form(*[PURPOSE] * (PARTS + 1), FILE), "cannot be read"),
        "many headers": (form(("name=file" + "\r\nX: y" * HEADERS, b"")), "cannot be read"),
        "a huge header": (form(('name="file"; filename="' + "x" * 5000 + '"', b"")), "cannot be read"),
        "a header without end": (b"--b0undary\r\n" + b"x" * 100_000, "cannot be read"),
        "no disposition": (b"--b0undary\r\nContent-Type: text/plain\r\n\r\nx\r\n--b0undary--", "cannot be read"),
        "no anchor": (form(FILE, PURPOSE, SECONDS), "expires_after.anchor"),
        "no seconds": (form(FILE, PURPOSE, ANCHOR), "expires_after.seconds"),
        "soon": (form(FILE, PURPOSE, ANCHOR, ('name="expires_after[seconds]"', b"3599")), "expires_after.seconds"),
        "never": (form(FILE, PURPOSE, ANCHOR, ('name="expires_after[seconds]"', b"9" * 30)), "expires_after.seconds"),
        "another anchor": (form(FILE, PURPOSE, SECONDS, ('name="expires_after[anchor]"', b"now")), "expires_after"),
    }.values(),
)
def test_what_is_wrong_is_named(body: bytes, said: str) -> None:
    for cuts in ((), range(1, len(body), 97)):
        with pytest.raises(BadRequestError, match=said.replace("[", r"\[")):
            read(body, cuts)


@pytest.mark.parametrize("name", ["purpose", "n" * 64, "n" * 65, "n" * 200])
def test_a_field_that_is_wrong_is_the_errors_param(name: str) -> None:
    head = f'name="{name}"'
    for value in (b"\xff", b"x" * (LONGEST_FIELD + 1)):
        with pytest.raises(BadRequestError) as caught:
            read(form((head, value), FILE))
        assert caught.value.param == name[:64]
    for body in (form(FILE, ('name=""', b"\xff")), form(("x=y", b"x" * (LONGEST_FIELD + 1)))):
        with pytest.raises(BadRequestError) as caught:
            read(body)
        assert caught.value.param is None
    if name != "purpose":
        _, request = read(form(PURPOSE, (head, b"x" * LONGEST_FIELD), FILE))
        assert request.unknown_fields == [name]


def test_a_boundary_that_cannot_be_is_told() -> None:
    with pytest.raises(BadRequestError, match="Invalid characters in boundary") as caught:
        read(b"", content_type='multipart/form-data; boundary="a\nb"')
    assert caught.value.code == "invalid_form"


@pytest.mark.parametrize("content_type", [None, "", "application/json", "multipart/mixed; boundary=x", "x" * 60_000])
def test_another_type_is_a_415(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="multipart/form-data"):
        FileForm(content_type, UploadRequest)


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary=""', "; boundary=" + "x" * 60_000])
def test_a_boundary_is_needed(boundary: str) -> None:
    with pytest.raises(BadRequestError):
        read(form(FILE, PURPOSE), content_type="multipart/form-data" + boundary)


def test_a_wrong_purpose_in_front_is_told_before_the_file() -> None:
    reader = FileForm(TYPE, UploadRequest)
    head = form(('name="purpose"', b"fun"), FILE).partition(DATA)[0]
    with pytest.raises(BadRequestError, match="purpose"):
        list(reader.feed(head))


def test_what_stands_around_the_form_is_passed_over() -> None:
    """Preamble and epilogue (RFC 2046), a file without a name, fields that nobody knows."""
    body = b"preamble\r\n" + form(('name="file"', b"data"), PURPOSE, ('name="color"', b"red")) + b"epilogue" * 100
    for cuts in ((), range(1, len(body))):
        file, request = read(body, cuts)
        assert (file, request.file, request.unknown_fields) == (b"data", "upload", ["color"])


def test_memory_is_that_of_a_piece() -> None:
    """A field that grows, a header that grows: refused as it comes, not when it is here."""
    for head in (b'Content-Disposition: form-data; name="purpose"\r\n\r\n', b"X: "):
        reader = FileForm(TYPE, UploadRequest)
        list(reader.feed(b"--b0undary\r\n" + head))
        with pytest.raises(BadRequestError):
            list(itertools.chain.from_iterable(reader.feed(b"x" * 256) for _ in range(40)))
