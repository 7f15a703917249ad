"""How the index is: what keeps it from being written, whether it is in doubt, what was mended, what is missing."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import anyio

from indexer.errors import StoreError
from indexer.store.aside import kept
from indexer.store.fault import REMEDIES, mendable, raised

_TOLD = 10  # sentences about damage that are kept
_AGAIN = 600.0  # seconds: damage met again so soon after a repair was not found by it


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the index cannot be written at the moment.

    Attributes:
        code: As of ``StoreError``: ``disk_full``, ``read_only``, ``permission``, ``io_error``, ...
        detail: What happened, one sentence.
        remedy: What to do, one sentence.
        since: When it was met first, seconds since the epoch.
    """

    code: str
    detail: str
    remedy: str
    since: float


class Health:
    """The state of one store; every read and write reports to it.

    Attributes:
        trouble: Why the last write failed; None as soon as one succeeds.
        damage: What was found broken since the store was opened and what became of it, sentences for people.
        doubted: Set when something met in the middle of work says that a file is bad: somebody should ``mend``.
        stubborn: Whether damage was met again soon after a repair that found nothing.
        aside: When something was set aside that is still kept, see ``aside.kept``.
        counted: Whether the counts in memory are those of the tables; a failed write may have been made all the same.
    """

    def __init__(self, root: Path) -> None:
        self.trouble: Trouble | None = None
        self.damage: deque[str] = deque(maxlen=_TOLD)
        self.doubted = anyio.Event()
        self.stubborn = False
        self.counted = True
        self._repaired = anyio.Event()
        self._mended = -_AGAIN
        self.aside = tuple(kept(root))
        self._root = root
        self._note = root / "rebuilding"
        self._rebuilding = _text(self._note)

    @property
    def rebuilding(self) -> str:
        """Why the text is being read from the folders anew, one sentence; empty when it is complete.

        It stands in a file beside the tables, so that a restart in the middle does not forget it.
        """
        return self._rebuilding

    def met(self, error: StoreError) -> None:
        """Note what a read or a write failed of."""
        cause = error.__cause__
        bad = error.code == "damaged" or (isinstance(cause, raised()) and mendable(cause))
        if bad and not self.doubted.is_set():
            self.stubborn = time.monotonic() - self._mended < _AGAIN
            self.doubted.set()

    def refused(self, error: StoreError) -> None:
        """Note a write that failed."""
        self.counted = False
        self.met(error)
        if error.code in REMEDIES:
            same = self.trouble is not None and self.trouble.code == error.code
            since = self.trouble.since if same and self.trouble else time.time()
            self.trouble = Trouble(error.code, str(error), REMEDIES[error.code], since)

    def wrote(self) -> None:
        """Note a write that succeeded: whatever was in the way has gone."""
        self.trouble = None

    def broke(self, sentence: str) -> None:
        """Note what was found broken and what became of it."""
        self.damage.append(sentence)
        self.aside = tuple(kept(self._root))

    def mended(self) -> None:
        """Note that the tables have been looked through and what was bad is no longer in the way."""
        self._mended = time.monotonic()
        self.counted = True
        if self.trouble is not None and self.trouble.code in ("damaged", "internal"):
            self.trouble = None
        self.doubted = anyio.Event()
        self._repaired.set()
        self._repaired = anyio.Event()

    async def repaired(self) -> None:
        """Wait until nothing is in doubt any more."""
        while self.doubted.is_set():
            await self._repaired.wait()

    def rebuild(self, why: str) -> None:
        """Note that the text has to be read from the folders again."""
        self._rebuilding = why
        try:
            self._note.write_text(why, encoding="utf-8")
        except OSError:
            return  # a full or read-only disk: then it is known until the process ends

    def rebuilt(self) -> None:
        """Note that every folder has been read again."""
        self._rebuilding = ""
        self._note.unlink(missing_ok=True)


def _text(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
