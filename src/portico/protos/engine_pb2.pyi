# Generated from engine.proto by python -m portico.protos.generate; do not edit.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
from portico.protos import smg_common_pb2 as _smg_common_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Frames(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
