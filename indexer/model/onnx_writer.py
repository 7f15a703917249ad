"""Writing an ONNX graph as bytes: the few messages of ``onnx.proto`` that a graph over external weights needs.

The ``onnx`` package would cost 0.3 CPU seconds and 17 MiB in every process that opens a model (measured), to write
some kilobytes. Field numbers are those of ``onnx.proto`` (ONNX IR version 8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FLOAT, INT32, INT64, FLOAT16, BFLOAT16 = 1, 6, 7, 10, 16
MICROSOFT = "com.microsoft"
_IR_VERSION = 8
_OPSET = 17
_LENGTH_DELIMITED, _FIXED32 = 2, 5


@dataclass(slots=True)
class Graph:
    """An ONNX graph being written; every method returns the name of what it adds."""

    _nodes: list[bytes] = field(default_factory=list)
    _initializers: list[bytes] = field(default_factory=list)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare an input of ``shape`` (names stand for free axes)."""
        self._inputs.append(_field(11, _value_info(name, kind, shape)))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare which value is an output."""
        self._outputs.append(_field(12, _value_info(name, kind, shape)))
        return name

    def constant(self, name: str, values: Sequence[int]) -> str:
        """Add a vector of int64."""
        raw = struct.pack(f"<{len(values)}q", *values)
        tensor = _ints(1, [len(values)]) + _int(2, INT64) + _text(8, name) + _field(9, raw)
        self._initializers.append(_field(5, tensor))
        return name

    def external(self, name: str, kind: int, shape: Sequence[int], file: str, *, span: tuple[int, int]) -> str:
        """Add a tensor whose bytes lie in ``file``; ``span`` is their offset and length in bytes."""
        offset, length = span
        entries = {"location": file, "offset": str(offset), "length": str(length)}
        where = b"".join(_field(13, _text(1, k) + _text(2, v)) for k, v in entries.items())
        tensor = _ints(1, shape) + _int(2, kind) + _text(8, name) + where + _int(14, 1)
        self._initializers.append(_field(5, tensor))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: float | Sequence[int]
    ) -> str:
        """Add an operation with one output; ``float``, ``int`` and integer lists are its attributes."""
        body = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output) + _text(4, kind)
        body += b"".join(_field(5, _attribute(k, v)) for k, v in attributes.items())
        self._nodes.append(_field(1, body + (_text(7, domain) if domain else b"")))
        return output

    def to_bytes(self) -> bytes:
        """Return the serialized ``ModelProto``."""
        graph = b"".join([*self._nodes, _text(2, "model"), *self._initializers, *self._inputs, *self._outputs])
        opsets = b"".join(_field(8, _text(1, d) + _int(2, v)) for d, v in (("", _OPSET), (MICROSOFT, 1)))
        return _int(1, _IR_VERSION) + _field(7, graph) + opsets


def _value_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _int(1, d) if isinstance(d, int) else _text(2, d)) for d in shape)
    return _text(1, name) + _field(2, _field(1, _int(1, kind) + _field(2, dims)))


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | _FIXED32) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _int(3, value) + _int(20, 2)
    return _text(1, name) + _ints(8, value) + _int(20, 7)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _ints(number: int, values: Iterable[int]) -> bytes:
    return b"".join(_int(number, value) for value in values)


def _varint(value: int) -> bytes:
    """Encode an integer seven bits a byte, low bits first; negative ones as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
