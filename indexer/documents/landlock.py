"""Landlock (Linux 5.13 and newer): a process gives up rights on files and on the network, for all code in it.

Through the C library's ``syscall``, as it has no functions for it. Rights and the versions of the kernel's interface
that brought them: ``linux/landlock.h``. A ruleset that names a right which the kernel does not know is refused as a
whole, so ``handled`` leaves such rights out.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the three system calls, the same for every processor that Python runs on."""
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

# Access rights on files; those up to MAKE_SYM came with version 1.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = 1 << 13, 1 << 14, 1 << 15, 1 << 16
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
READING = READ_FILE | READ_DIR
"""Rights to open a file for reading and to list a directory."""
CHANGING = EXECUTE | WRITE_FILE | _REMOVE_AND_MAKE | REFER | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX
"""Every other right: to start programs, write, delete, create, move, truncate, control devices, find sockets."""
_SINCE = {REFER: 2, TRUNCATE: 3, IOCTL_DEV: 5, RESOLVE_UNIX: 9}
_NETWORK, _NETWORK_SINCE = 0b11, 4  # bind and connect of TCP
_SCOPES, _SCOPES_SINCE = 0b11, 6  # abstract unix sockets and signals of processes outside


class Unavailable(OSError):
    """The kernel offers no Landlock, or does not let this process use it."""


class _RulesetAttributes(ctypes.Structure):
    # A kernel that knows fewer fields accepts the longer structure as long as what it does not know is zero.
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32))


def version() -> int:
    """Version of the kernel's interface, from 1; 0 where there is no Landlock or it is switched off."""
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION_FLAG))


def handled(wanted: int, known: int) -> int:
    """The rights of ``wanted`` that version ``known`` of the interface has."""
    for right, since in _SINCE.items():
        if known < since:
            wanted &= ~right
    return wanted


def give_up_changes() -> int:
    """Give up every right but reading, TCP, and reaching processes outside by signal; returns the version in force.

    It holds for the calling thread and the threads and processes that it starts.

    Raises:
        Unavailable: The kernel does not offer it.
    """
    known = _required_version()
    network = _NETWORK if known >= _NETWORK_SINCE else 0
    scopes = _SCOPES if known >= _SCOPES_SINCE else 0
    _enforce(_RulesetAttributes(handled(CHANGING, known), network, scopes), 0, ())
    return known


def give_up_reading(but: Iterable[str]) -> None:
    """Give up opening files and directories, except those at and below some paths; open descriptors stay readable.

    Args:
        but: Paths of files and directories; those that cannot be opened are left out.

    Raises:
        Unavailable: The kernel does not offer it.
    """
    _required_version()
    _enforce(_RulesetAttributes(READING, 0, 0), READING, but)


def _required_version() -> int:
    known = version()
    if not known:
        raise Unavailable("this kernel offers no Landlock")
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unavailable("other threads of this process run already, which Landlock would not bind")
    return known


def _enforce(attributes: _RulesetAttributes, allowed: int, paths: Iterable[str]) -> None:
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    if ruleset < 0:
        raise Unavailable(ctypes.get_errno(), "Landlock takes no ruleset")
    try:
        for path in paths:
            _allow(ruleset, path, allowed)
        no_new_privileges()
        if _call(_RESTRICT_SELF, ruleset, 0):
            raise Unavailable(ctypes.get_errno(), "Landlock cannot be enforced")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= ~READ_DIR  # a file with a directory's right is refused
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(_PathBeneath(rights, place)), 0)
    finally:
        os.close(place)


def no_new_privileges() -> None:
    """Let no program that is started from here gain rights; without it the kernel takes no limits from a user.

    Raises:
        Unavailable: The kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise Unavailable(ctypes.get_errno(), "privileges cannot be given up")


def _call(number: int, *arguments: object) -> int:
    """A system call; -1 where it fails."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(function(ctypes.c_long(number), *longs))
