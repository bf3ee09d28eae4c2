"""OpenAI's files: the form in which one comes, as a whole or in the parts of an upload.

The form is ``multipart/form-data`` (RFC 7578), read in pieces: what is in memory is a piece and the short fields. The
fields may stand before the file or behind it. A file's name is data, kept as it was given.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from pydantic import Field

from portico.errors import BadRequestError, UnsupportedMediaTypeError
from portico.protocols.bounds import Items
from portico.protocols.validation import RequestModel, parse_fields

__all__ = [
    "BATCH_DAYS",
    "DAY",
    "FORM",
    "HOUR",
    "CompleteUploadRequest",
    "CreateUploadRequest",
    "ExpiresAfter",
    "FileForm",
    "PartRequest",
    "UploadRequest",
    "new_id",
]

FORM: Final = 64 << 10  # bytes that a form may have beside its file
PARTS: Final = 16  # of a form
HEADERS: Final = 8  # of a part
LONGEST_HEADER: Final = 4096  # bytes
LONGEST_FIELD: Final = 1024  # bytes
LONGEST_TYPE: Final = 512  # characters of the request's Content-Type

HOUR, DAY = 3600, 86400  # seconds
BATCH_DAYS: Final = 30  # for which files of batches are kept, unless their clients say otherwise
NAMELESS: Final = "upload"  # what a file is called that comes without a name
MOST_PARTS: Final = 10_000  # of an upload

Purpose: TypeAlias = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


def new_id(prefix: str, now: float) -> str:
    """A fresh id. What was made in one second is listed by its ids: they begin with the milliseconds."""
    return f"{prefix}{int(now * 1000):012x}{secrets.token_hex(10)}"


class ExpiresAfter(RequestModel):
    """When a file ceases to exist."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=HOUR, le=30 * DAY)]


class UploadRequest(RequestModel):
    """POST /v1/files, without the bytes: ``file`` is the name of the file here."""

    media_type: ClassVar[str] = "multipart/form-data"

    file: Annotated[str, Field(json_schema_extra={"format": "binary"})]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CreateUploadRequest(RequestModel):
    """POST /v1/uploads: what the file will be that comes in parts."""

    filename: str
    purpose: Purpose
    bytes: Annotated[int, Field(ge=0)]
    mime_type: str
    expires_after: ExpiresAfter | None = None


class PartRequest(RequestModel):
    """POST /v1/uploads/{id}/parts, without the bytes: ``data`` is the name of the part's file here."""

    media_type: ClassVar[str] = "multipart/form-data"

    data: Annotated[str, Field(json_schema_extra={"format": "binary"})]


class CompleteUploadRequest(RequestModel):
    """POST /v1/uploads/{id}/complete: the parts in their order."""

    part_ids: Annotated[Items[str], Field(min_length=1, max_length=MOST_PARTS)]
    md5: str | None = None


Form = TypeVar("Form", bound=RequestModel)


class FileForm(Generic[Form]):
    """One form: ``feed`` takes it in pieces and gives those of the file, ``close`` what else it says.

    ``model`` is what it says, ``file`` the field that the file is in. Both methods raise ``BadRequestError`` where it
    is malformed, is cut off, or says what cannot be; as early as that is known.
    """

    def __init__(self, content_type: str | None, model: type[Form], file: str = "file") -> None:
        """Raises ``UnsupportedMediaTypeError`` where the body is no such form."""
        self._model = model
        self._file = file
        kind, options = parse_options_header((content_type or "")[:LONGEST_TYPE])
        if kind != "multipart/form-data":
            raise UnsupportedMediaTypeError(f"The body must be a form: send '{file}' as multipart/form-data.")
        boundary = options.get("boundary")
        if not boundary:
            raise BadRequestError("The Content-Type has no boundary; let the HTTP client set this header.")
        self._fields: dict[str, Any] = {}
        self._name = ""  # of the part that is being read
        self._value = bytearray()
        try:
            self._parser = PushMultipartParser(
                boundary.encode("latin-1"),
                max_header_size=LONGEST_HEADER,
                max_header_count=HEADERS,
                max_segment_count=PARTS,
            )
        except MultipartError as error:
            raise self._malformed(error) from None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of the file in this piece of the form."""
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                elif self._name == self._file:
                    yield event
                else:
                    self._value += event
                    if len(self._value) > LONGEST_FIELD:
                        raise BadRequestError(
                            f"A field of the form may have {LONGEST_FIELD} bytes; only '{self._file}' is longer.",
                            param=self._name[:64] or None,
                        )
        except MultipartError as error:
            raise self._malformed(error) from None

    def close(self) -> Form:
        """The form is here as a whole."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise self._malformed(error) from None
        return self._read()

    def _begin(self, part: MultipartSegment) -> None:
        self._name = part.name or ""
        self._value.clear()
        if self._name != self._file:
            return
        if self._file in self._fields:
            raise BadRequestError("The form has two files; send one a request.", param=self._file)
        self._fields[self._file] = part.filename or NAMELESS
        if "purpose" in self._fields:
            self._read()  # what is wrong is told before the file is read

    def _end(self) -> None:
        if self._name == self._file:
            return
        try:
            value = self._value.decode()
        except UnicodeDecodeError:
            raise BadRequestError("A field of the form is not text in UTF-8.", param=self._name[:64] or None) from None
        self._fields[self._name] = value

    def _read(self) -> Form:
        fields: dict[str, Any] = {}
        for name, value in self._fields.items():
            outer, bracket, inner = name.partition("[")
            if bracket and inner.endswith("]"):
                inside = fields.setdefault(outer, {})
                if isinstance(inside, dict):
                    inside[inner[:-1]] = int(value) if _is_number(value) else value
            else:
                fields[name] = value
        return parse_fields(self._model, fields)

    def _malformed(self, error: MultipartError) -> BadRequestError:
        told = f"The form cannot be read ({error.args[0]}); send '{self._file}' as multipart/form-data."
        return BadRequestError(told, code="invalid_form")


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 10
