"""The embedding queue of one folder and one model: derived from the tables, never stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Backlog:
    """Chunk ids that had no vector when the tables were compared, in table order.

    Kept as Arrow memory: 36 bytes an id, so 36 MB for a million. It may name chunks that have since gone or been
    embedded; whoever takes ids from it checks them against the tables.

    Attributes:
        ids: Arrow array of ids.
        head: How many at the front are dealt with.
        late: Ids of chunks that came afterwards.
    """

    ids: Any
    head: int = 0
    late: list[str] = field(default_factory=list)

    @classmethod
    def between(cls, chunks: Any, done: Any) -> Backlog:
        """The ids of one Arrow column that are not in another."""
        import pyarrow.compute as pc  # noqa: PLC0415

        waiting = chunks.filter(pc.invert(pc.is_in(chunks, value_set=done.combine_chunks())))
        return cls(waiting.combine_chunks())

    def window(self, start: int, count: int) -> list[str]:
        """Up to ``count`` ids from ``start`` on, counted from the head."""
        at = self.head + start
        out: list[str] = self.ids.slice(at, count).to_pylist() if at < len(self.ids) else []
        rest = max(at + len(out) - len(self.ids), 0)
        return out + self.late[rest : rest + count - len(out)]

    def pass_over(self, count: int) -> None:
        """Advance the head; what it has passed is not offered again."""
        self.head += count
        if self.head >= len(self.ids) and self.late:
            import pyarrow as pa  # noqa: PLC0415

            self.ids = pa.array(self.late[self.head - len(self.ids) :], pa.string())
            self.head, self.late = 0, []
