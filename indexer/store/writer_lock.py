"""The writer lock: one writing process per data directory. The kernel releases it when its holder dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from indexer.errors import StoreBusy, StoreError
from indexer.store.health import store_errors
from indexer.store.private_directory import make_directory

_LOCKED_BYTE = 1 << 30  # Windows locks bytes and then refuses to read them: lock one that the text never reaches


class WriterLock:
    """The right to write, held for a ``with`` block.

    The file stays in the data directory. Its text is the holder's process id, for the message only; a clean end
    empties it, so a free lock with a text means that the last writer did not end cleanly.

    Attributes:
        unclean: Whether the last writer was killed, or the machine went down.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unclean = False
        self._fd = -1

    def renew(self) -> None:
        """Take the lock again if its file was deleted or replaced with the directory.

        Raises:
            StoreBusy: Another process has created a lock there and holds it.
            StoreError: The file cannot be created.
        """
        held = os.fstat(self._fd)
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            with store_errors(f"create the data directory {self.path.parent}"):
                make_directory(self.path.parent)
        else:
            if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino):
                return
        old = self._fd
        self.__enter__()
        self.unclean = False  # the index was deleted with the directory
        os.close(old)

    def __enter__(self) -> WriterLock:
        """Take the lock.

        Raises:
            StoreBusy: Another process, or another store in this process, holds it.
            StoreError: The file cannot be created.
        """
        with store_errors(f"lock the data directory {self.path.parent}"):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        text = os.pread(fd, 64, 0) if sys.platform != "win32" else os.read(fd, 64)
        if not _try_lock(fd):
            os.close(fd)
            holder = text.decode("ascii", "replace").strip() or "unknown"
            raise StoreBusy(
                f"the index in {self.path.parent} is being written by another folder-mcp (process {holder}); "
                "search through that one, stop it, or use another --data-dir"
            )
        self._fd, self.unclean = fd, bool(text.strip())
        try:
            with store_errors(f"write to the data directory {self.path.parent}"):
                self._write(str(os.getpid()))
        except StoreError:  # a full disk: another attempt of this process must not find the lock held
            os.close(fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._write("")
        except OSError:
            pass  # a full or vanished disk: the next start sees an unclean end, which is right
        finally:
            os.close(self._fd)  # closing drops the lock

    def _write(self, text: str) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text.encode("ascii"))


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock now; keeps the text of its last holder."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return False
    try:
        return _try_lock(fd)
    finally:
        os.close(fd)
