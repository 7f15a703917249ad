"""What tests put into an index: files with chunks, and vectors made from the text so that like texts are near."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from indexer.types import Chunk, FileRow, FileWrite, Locator, Matrix, StoredChunk

DIM = 32
FOLDER = "/home/me/notes"


def row(path: str, *, folder: str = FOLDER, chunks: int = 0, mtime_ns: int = 1_000, **changes: object) -> FileRow:
    """The row of an indexed file."""
    fields: dict[str, object] = {"size": 10, "sha256": "ab", "parser": "plain/1", "recipe": "r1", "outcome": "indexed"}
    fields |= {"reason": "", "attempts": 0, "indexed_at": 5.0} | changes
    return FileRow(path=path, folder=folder, mtime_ns=mtime_ns, chunks=chunks, **fields)  # type: ignore[arg-type]


def written(path: str, *texts: str, folder: str = FOLDER, first_line: int = 1, **changes: object) -> FileWrite:
    """A file of these chunks, a line each; a relative path is below the folder."""
    path = path if path.startswith("/") else f"{folder}/{path}"
    chunks = tuple(
        Chunk(at, text, "", Locator("lines", "", first_line + at, first_line + at)) for at, text in enumerate(texts)
    )
    tokens = tuple(" ".join(re.findall(r"\S+", text.lower())) for text in texts)
    return FileWrite(row(path, folder=folder, chunks=len(texts), **changes), chunks, tokens)  # type: ignore[arg-type]


def vectors_of(chunks: Sequence[StoredChunk] | Sequence[str], dim: int = DIM) -> Matrix:
    """Unit vectors, the same for the same text: float32 [n, dim]."""
    out = np.zeros((len(chunks), dim), np.float32)
    for at, chunk in enumerate(chunks):
        text = chunk if isinstance(chunk, str) else chunk.passage
        for word in text.split():
            seed = int.from_bytes(word.encode()[:16].ljust(16, b"\0"), "big")
            out[at] += np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return out / np.linalg.norm(out, axis=1, keepdims=True)
