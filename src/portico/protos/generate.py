"""Generates the Python code of the ``*.proto`` files beside it: ``python -m portico.protos.generate``.

Needs grpcio-tools, of the oldest release whose code has to run: generated code runs on its own and on later versions
of grpcio and protobuf (one major version later of the latter), never on earlier ones. Each file gets a header that
says where it comes from and keeps linters and type checkers from judging it.
"""

from __future__ import annotations

from importlib import import_module, resources
from pathlib import Path

__all__ = ["generate"]

HERE = Path(__file__).resolve().parent
HEADER = """\
# Generated from {source} by python -m portico.protos.generate; do not edit.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
"""


def generate() -> None:
    """Write ``*_pb2.py``, ``*_pb2.pyi`` and, for files with a service, ``*_pb2_grpc.py``."""
    protoc = import_module("grpc_tools.protoc")
    root = HERE.parent.parent
    for proto in sorted(HERE.glob("*.proto")):
        own = resources.files("grpc_tools") / "_proto"  # google's own types
        flags = [f"-I{root}", f"-I{own}", f"--python_out={root}", f"--pyi_out={root}"]
        if "\nservice " in proto.read_text(encoding="utf-8"):
            flags.append(f"--grpc_python_out={root}")
        if protoc.main(["protoc", *flags, str(proto)]) != 0:
            raise SystemExit(f"{proto.name} could not be compiled")
        for made in HERE.glob(f"{proto.stem}_pb2*.py*"):
            made.write_text(HEADER.format(source=proto.name) + made.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    generate()
