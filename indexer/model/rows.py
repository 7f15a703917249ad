"""The last step of every runtime: rows of unit length, checked to be numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.types import Matrix


def unit_rows(raw: Any, dim: int) -> Matrix:
    """Return ``raw`` as float32 [n, dim] with rows of unit length.

    A row of zeros stays zeros: a text of which the model sees nothing is near to nothing.

    Raises:
        ValueError: The model returned another shape, or something that is not a finite number.
    """
    import numpy as np  # noqa: PLC0415

    rows = np.asarray(raw, dtype=np.float32).reshape(len(raw), -1) if len(raw) else np.zeros((0, dim), np.float32)
    if dim and rows.shape[1] != dim:
        raise ValueError(f"the model returned vectors of {rows.shape[1]} numbers, expected {dim}")
    if not np.isfinite(rows).all():
        raise ValueError("the model returned vectors with infinite or undefined numbers")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0.0] = 1.0
    unit: Matrix = rows / lengths
    return unit
