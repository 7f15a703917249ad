"""Put on PYTHONPATH by a test: writes to $SPY_LOG, in order, each import of a heavy library and each answer sent."""

from __future__ import annotations

import os
import sys

HEAVY = ("torch", "transformers", "sentence_transformers", "lancedb", "pyarrow", "numpy", "onnxruntime", "tokenizers")
_log = os.open(os.environ["SPY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_write = os.write


def _spying_write(fd: int, data: bytes) -> int:
    if fd > 2 and bytes(data[:10]).startswith(b'{"jsonrpc"'):
        _write(_log, b"answer\n")
    return _write(fd, data)


def _on_audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "import" and arguments and arguments[0] in HEAVY:
        _write(_log, f"import {arguments[0]}\n".encode())


os.write = _spying_write
sys.addaudithook(_on_audit)
