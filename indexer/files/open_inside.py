"""Opens files and directories below a folder's root without following a link in any part of the way.

Whoever can write in a folder can replace a directory by a link to another place between the check of a path and its
opening. So there is no check of paths here: the kernel resolves the path below an open descriptor of the root and
refuses links itself, and what was opened is what is asked (``fstat``) and read.

    Linux 5.6 and later    one call of ``openat2`` (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS)
    other POSIX systems    one ``openat`` with O_NOFOLLOW for each part of the path
    Windows                the file is opened, then the system is asked where it really is

The root is opened by its path at each use. Links above it are the user's own and are followed; the root itself must
not be a link: it was resolved when it was registered. Mount points inside the root are entered (a folder may hold a
disk). Hard links are files of the folder they are in.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from io import FileIO
from typing import Any

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
"""A FIFO that replaced a file opens at once and is refused then, instead of waiting for a writer."""
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
"""A directory on the way: O_PATH needs no right to list it."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegularFile(OSError):
    """What was opened is a pipe, a device, a socket or a directory."""


def open_file(path: str, root: str) -> FileIO:
    """Open a regular file for reading. Never blocks for a writer; the descriptor is closed on exec.

    Args:
        path: Absolute, below ``root``.
        root: The folder, absolute and resolved.

    Raises:
        NotRegularFile: It is not a regular file.
        OSError: ELOOP when a part of the way is a link, EXDEV when the path leads out of the root; else the system's.
    """
    relative = relative_path(path, root)
    if sys.platform == "win32":
        descriptor = os.open(path, _READ)
    else:
        with open_root(root) as top:
            descriptor = _open(top, relative, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularFile(errno.EINVAL, "not a regular file", path)
        if sys.platform == "win32" and not _is_below(_final_path(descriptor), root):
            raise OSError(errno.EXDEV, "outside the folder", path)
        return FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def stat_inside(path: str, root: str) -> os.stat_result:
    """Status of what a path names, of a link itself where it names one.

    Raises:
        OSError: ELOOP when a directory on the way is a link, EXDEV when the path leads out of the root.
    """
    if sys.platform == "win32":
        relative_path(path, root)
        if not _is_below(os.path.realpath(os.path.dirname(path)), root):
            raise OSError(errno.EXDEV, "outside the folder", path)
        return os.lstat(path)
    above, _, name = relative_path(path, root).rpartition("/")
    with open_root(root) as top:
        if not above:
            return os.stat(name, dir_fd=top, follow_symlinks=False)
        directory = _open(top, above, _PASS)
        try:
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)


@contextmanager
def open_root(root: str) -> Iterator[int]:
    """A descriptor of a folder, from which paths below it are opened.

    Raises:
        OSError: It cannot be opened; ELOOP when it is a link.
    """
    try:
        descriptor = os.open(root, _PASS | _NO_LINK)
    except NotADirectoryError:
        raise _link_or_file(root) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class OpenTree:
    """A folder whose directories are listed below an open descriptor of its root; holds two descriptors at most.

    Args:
        root: The folder, absolute and resolved.

    Raises:
        OSError: It cannot be opened; ELOOP when it is a link.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._prefix = len(os.path.join(root, ""))
        self._descriptors = ExitStack()
        self._top = -1 if sys.platform == "win32" else self._descriptors.enter_context(open_root(root))
        self._listed = -1

    def __enter__(self) -> OpenTree:
        return self

    def __exit__(self, *_: object) -> None:
        if self._listed >= 0:
            self._close_listed()
        self._descriptors.close()

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        """The entries of a directory. Their status can be asked for until the next call.

        Args:
            directory: Absolute, the root or below it, without a part ``..``.

        Raises:
            OSError: ELOOP when a part of the way is a link, ENOTDIR when it is no directory.
        """
        if self._listed >= 0:
            self._close_listed()
        relative = directory[self._prefix :] or "."
        if sys.platform == "win32":
            if not _is_below(os.path.realpath(directory), self._root):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), directory)
            with os.scandir(directory) as listing:
                return list(listing)
        self._listed = _open(self._top, relative, _LIST)
        with os.scandir(self._listed) as listing:
            return list(listing)

    def _close_listed(self) -> None:
        os.close(self._listed)
        self._listed = -1


def relative_path(path: str, root: str) -> str:
    """The path from the root, ``.`` for the root itself.

    Raises:
        OSError: EXDEV when the path is not below the root or has a part ``..``, EINVAL when it has a NUL character.
    """
    if path == root:
        return "."
    prefix = root if root.endswith(os.sep) else root + os.sep
    relative = path[len(prefix) :]
    if not path.startswith(prefix) or not {"", ".", ".."}.isdisjoint(relative.split(os.sep)):
        raise OSError(errno.EXDEV, "outside the folder", path)
    if "\0" in relative:
        raise OSError(errno.EINVAL, "a path with a NUL character", path)
    return relative


def _open(top: int, relative: str, flags: int) -> int:
    """Open below a descriptor, in the way that this system offers."""
    return _open_beneath(top, relative, flags) if _has_openat2() else _open_by_parts(top, relative, flags)


# Linux: one call -----------------------------------------------------------------------------------------------------

_OPENAT2 = ctypes.c_long(437)
"""Number of the system call on every architecture but Alpha (linux/include/uapi/asm-generic/unistd.h)."""
_OPEN_HOW_BYTES = ctypes.c_size_t(24)
_RESOLVE = 0x08 | 0x04 | 0x02
"""RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS (linux/include/uapi/linux/openat2.h)."""
_TRIES = 10
"""EAGAIN: the kernel saw a rename or a mount at the same moment, and asks for another try (openat2(2))."""


@cache
def _has_openat2() -> bool:
    """Whether the kernel has ``openat2``, and no filter of a container refuses it. Asked once."""
    if sys.platform != "linux" or os.uname().machine == "alpha":
        return False
    try:
        os.close(_open_beneath(_AT_FDCWD, ".", _PASS))
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
    return True


_AT_FDCWD = -100


def _open_beneath(top: int, relative: str, flags: int) -> int:
    call, how, path = _system_call(), _open_how(flags), os.fsencode(relative)
    for _ in range(_TRIES):
        descriptor = call(_OPENAT2, top, path, how, _OPEN_HOW_BYTES)
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):
            break
    raise OSError(number, os.strerror(number), relative)


@cache
def _open_how(flags: int) -> bytes:
    """A ``struct open_how``: flags, mode, resolve (linux/include/uapi/linux/openat2.h)."""
    return struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE)


@cache
def _system_call() -> Any:
    # Without argtypes, which cost a microsecond a call: the arguments have their C types already.
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function


# Other POSIX systems: one part after the other -----------------------------------------------------------------------


def _open_by_parts(top: int, relative: str, flags: int) -> int:
    *above, name = relative.split("/")
    at = top
    try:
        for part in above:
            inner = _open_part(at, part, _PASS | _NO_LINK)
            if at != top:
                os.close(at)
            at = inner
        return _open_part(at, name, flags | _NO_LINK)
    finally:
        if at != top:
            os.close(at)


def _open_part(at: int, part: str, flags: int) -> int:
    try:
        return os.open(part, flags, dir_fd=at)
    except NotADirectoryError:
        raise _link_or_file(part, at) from None


def _link_or_file(name: str, at: int | None = None) -> OSError:
    """What O_DIRECTORY with O_NOFOLLOW refused: Linux says ENOTDIR for a link too."""
    try:
        link = stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except OSError as error:
        return error
    number = errno.ELOOP if link else errno.ENOTDIR
    return OSError(number, os.strerror(number), name)


# Windows: opened first, then asked -----------------------------------------------------------------------------------

if sys.platform == "win32":
    import msvcrt

    _LONGEST_PATH = 32_768
    """Characters of a path at most (winbase.h, GetFinalPathNameByHandleW)."""

    def _final_path(descriptor: int) -> str:
        """The path of an open file, links resolved."""
        name = ctypes.create_unicode_buffer(_LONGEST_PATH)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        if not ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, name, _LONGEST_PATH, 0):
            raise ctypes.WinError()
        given = name.value
        return "\\\\" + given[8:] if given.startswith("\\\\?\\UNC\\") else given.removeprefix("\\\\?\\")

    def _is_below(path: str, root: str) -> bool:
        inside, outer = os.path.normcase(path), os.path.normcase(root).rstrip(os.sep)
        return inside == outer or inside.startswith(outer + os.sep)
