"""One writer per data directory: a lock the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from indexer.errors import StoreBusy, StoreError
from indexer.store.health import explained

_FAR = 1 << 30  # Windows locks bytes and then refuses to read them: lock one that the text never reaches


class WriterLock:
    """The right to write, held from ``with`` to its end.

    The file stays in the data directory. Its text is the holder's process id, for the message only; a clean end
    empties it, so a text found when the lock is free means that the last writer did not end cleanly.

    Attributes:
        unclean: Whether the last writer was killed, or the machine went down.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unclean = False
        self._fd = -1

    def renew(self) -> None:
        """Take the lock again if its file is no longer where it was: the directory was deleted or replaced.

        Raises:
            StoreBusy: Somebody else has made a lock there and holds it.
            StoreError: The file cannot be created.
        """
        held = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            with explained(f"create the data directory {self.path.parent}"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
        else:
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                return
        old = self._fd
        self.__enter__()
        self.unclean = False  # what was there went with the directory
        os.close(old)

    def __enter__(self) -> WriterLock:
        """Take the lock.

        Raises:
            StoreBusy: Another process, or another store in this process, holds it.
            StoreError: The file cannot be created.
        """
        with explained(f"lock the data directory {self.path.parent}"):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        text = os.pread(fd, 64, 0) if sys.platform != "win32" else os.read(fd, 64)
        if not _take(fd):
            os.close(fd)
            holder = text.decode("ascii", "replace").strip() or "unknown"
            raise StoreBusy(
                f"the index in {self.path.parent} is being written by another folder-mcp (process {holder}); "
                "search through that one, stop it, or use another --data-dir"
            )
        self._fd, self.unclean = fd, bool(text.strip())
        try:
            with explained(f"write to the data directory {self.path.parent}"):
                self._write(str(os.getpid()))
        except StoreError:  # a full disk: whoever tries again in this process must not find the lock held
            os.close(fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._write("")
        except OSError:
            pass  # a full or vanished disk: the next start takes the end for an unclean one, which is right
        finally:
            os.close(self._fd)  # closing drops the lock

    def _write(self, text: str) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text.encode("ascii"))


if sys.platform == "win32":
    import msvcrt

    def _take(fd: int) -> bool:
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def free(path: Path) -> bool:
    """Whether nobody holds the lock now; leaves what its last holder wrote."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return False
    try:
        return _take(fd)
    finally:
        os.close(fd)
