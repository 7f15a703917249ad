"""A seccomp filter (Linux on x86-64 and ARM64): the system calls that reading a document takes, and no other.

It names what is allowed. A call it does not name ends with EPERM, or with ENOSYS where the callers have another way:
calls newer than this list, ``clone3`` (the C library then starts a thread by ``clone``, whose flags can be read
here), ``openat2`` and io_uring, whose arguments a filter cannot see. The numbers are those of ``asm/unistd_64.h``
(x86-64) and ``asm-generic/unistd.h`` (ARM64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterator, Sequence

from indexer.documents.landlock import Unavailable, no_new_privileges

_NONE = -1
# Name: number on x86-64, number on ARM64. No argument of these is looked at: they act on memory, on descriptors that
# are open already, on this process, or read clocks and names.
_ALLOWED = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "close": (3, 57), "close_range": (436, 436),
    "fstat": (5, 80), "newfstatat": (262, 79), "stat": (4, _NONE), "lstat": (6, _NONE), "statx": (332, 291),
    "fstatfs": (138, 44),
    "statfs": (137, 43), "lseek": (8, 62), "fadvise64": (221, 223), "mmap": (9, 222), "munmap": (11, 215),
    "mprotect": (10, 226), "mremap": (25, 216), "madvise": (28, 233), "msync": (26, 227), "brk": (12, 214),
    "mincore": (27, 232), "mlock": (149, 228), "munlock": (150, 229), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "access": (21, _NONE), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, _NONE), "readlinkat": (267, 78), "getcwd": (79, 17),
    "getdents": (78, _NONE), "getdents64": (217, 61), "dup": (32, 23), "dup2": (33, _NONE), "dup3": (292, 24),
    "pipe": (22, _NONE), "pipe2": (293, 59), "eventfd": (284, _NONE), "eventfd2": (290, 19),
    "timerfd_create": (283, 85), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87),
    "epoll_create": (213, _NONE), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, _NONE),
    "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "poll": (7, _NONE), "ppoll": (271, 73),
    "select": (23, _NONE), "pselect6": (270, 72), "futex": (202, 98), "futex_waitv": (449, 449),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "rseq": (334, 293), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169),
    "time": (201, _NONE), "times": (100, 153), "getitimer": (36, 102), "setitimer": (38, 103), "alarm": (37, _NONE),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getresuid": (118, 148),
    "getresgid": (120, 150), "getpgid": (121, 155), "getpgrp": (111, _NONE), "getsid": (124, 156), "uname": (63, 160),
    "sysinfo": (99, 179), "getrusage": (98, 165), "getrlimit": (97, 163), "getcpu": (309, 168),
    "getpriority": (140, 141), "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128),
    "getrandom": (318, 278), "membarrier": (324, 283), "arch_prctl": (158, _NONE), "set_tid_address": (218, 96),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "shutdown": (48, 210), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209),
}  # fmt: skip
# Calls that are allowed with some arguments only.
_CHECKED = {
    "open": (2, _NONE), "openat": (257, 56), "fcntl": (72, 25), "ioctl": (16, 29), "socketpair": (53, 199),
    "sendto": (44, 206), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prctl": (157, 167),
    "prlimit64": (302, 261),
}  # fmt: skip
_ABSENT = {
    "clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "memfd_create": (319, 279),
}  # fmt: skip
_NEWEST = 449
"""The newest call that this list was made for; later ones are answered as by a kernel that does not have them."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Name that ``platform.machine`` gives: column of the numbers above, and the kernel's AUDIT_ARCH constant."""
_X32 = 0x40000000
"""Numbers from here on are those of x86-64's 32-bit form, which would pass by the list."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000  # the last: a file without a name
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)
"""Copies of a descriptor, its flags, the size of a pipe: not F_SETOWN, which has signals sent to any process."""
_IOCTL = (0x5421, 0x5450, 0x5451, 0x541B, 0x5401, 0x5413)
"""FIONBIO, FIONCLEX, FIOCLEX, FIONREAD, TCGETS, TIOCGWINSZ: not TIOCSTI, which types into a terminal."""
_PRCTL = (3, 15, 16, 0x53564D41)
"""PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (a name for memory)."""
_AF_UNIX, _SOCK_STREAM = 1, 1
_SOCK_FLAGS = 0o2004000  # SOCK_CLOEXEC | SOCK_NONBLOCK

# Classic BPF, as linux/bpf_common.h and linux/seccomp.h define it.
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip when the condition holds, when it does not, operand."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def allow_only_reading() -> None:
    """Have the kernel refuse, to every thread of this process, each system call that reading a document does not take.

    Raises:
        Unavailable: The kernel or the processor is none that this filter is made for.
    """
    machine = platform.machine()
    if machine not in _MACHINES or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        raise Unavailable(f"there is no list of system calls for {machine or 'this processor'}")
    code = b"".join(
        each[0].to_bytes(2, "little") + bytes(each[1:3]) + each[3].to_bytes(4, "little")
        for each in instructions(machine, os.getpid())
    )
    no_new_privileges()
    kept = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(kept, ctypes.c_void_p))
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    number = 317 if machine == "x86_64" else 277
    if library.syscall(ctypes.c_long(number), _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)):
        raise Unavailable(ctypes.get_errno(), "the kernel takes no system call filter")


def instructions(machine: str, pid: int) -> list[Instruction]:
    """The filter's program.

    Args:
        machine: ``x86_64`` or ``aarch64``.
        pid: The process that signals may go to: the one that is filtered.
    """
    column, architecture = _MACHINES[machine]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    absent = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, architecture),  # first of all: in another architecture the numbers mean other calls
        refuse,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for numbers in _ALLOWED.values():
        if numbers[column] != _NONE:
            code += [(_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ALLOW)]
    for name, numbers in _CHECKED.items():
        if numbers[column] != _NONE:
            body = list(_checked(name, pid))
            code += [(_IF_EQUAL, 0, len(body), numbers[column]), *body]
    for numbers in _ABSENT.values():
        code += [(_IF_EQUAL, 0, 1, numbers[column]), absent]
    return [*code, (_IF_AT_LEAST, 0, 1, _NEWEST + 1), absent, refuse]


def _checked(name: str, pid: int) -> Iterator[Instruction]:
    """The part of the program for a call whose arguments are looked at; it ends in an answer."""
    refused = errno.ENOTTY if name == "ioctl" else errno.EPERM
    match name:
        case "open":
            yield from _unless_any_bit(1, _WRITES)
        case "openat":
            yield from _unless_any_bit(2, _WRITES)
        case "fcntl":
            yield from _one_of(1, _FCNTL, refused)
        case "ioctl":
            yield from _one_of(1, _IOCTL, refused)
        case "prctl":
            yield from _one_of(0, _PRCTL, refused)
        case "kill" | "tgkill":
            yield from _one_of(0, (pid,), refused)
        case "clone":
            yield from _equal(0, _CLONE_THREAD, mask=_CLONE_THREAD | _CLONE_NAMESPACES)
        case "socketpair":
            # Stream only: from one end of a datagram pair a message can be sent to the path of any socket.
            yield from _equal(0, _AF_UNIX)
            yield from _equal(1, _SOCK_STREAM, mask=0xFFFFFFFF & ~_SOCK_FLAGS)
        case "sendto":  # without an address
            yield from _equal(4, 0)
            yield from _equal(4, 0, high=True)
        case "prlimit64":  # read, not set, and of this process
            yield from _equal(0, 0)
            yield from _equal(2, 0)
            yield from _equal(2, 0, high=True)
    if name not in ("fcntl", "ioctl", "prctl", "kill", "tgkill"):
        yield (_RETURN, 0, 0, _ALLOW)


def _load(argument: int, high: bool = False) -> Instruction:
    """Take the lower, or the higher, half of an argument."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument + 4 * high)


def _unless_any_bit(argument: int, bits: int) -> Iterator[Instruction]:
    yield _load(argument)
    yield (_IF_ANY_BIT, 0, 1, bits)
    yield (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def _equal(argument: int, value: int, *, mask: int = 0, high: bool = False) -> Iterator[Instruction]:
    yield _load(argument, high)
    if mask:
        yield (_AND, 0, 0, mask)
    yield (_IF_EQUAL, 1, 0, value)
    yield (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def _one_of(argument: int, values: Sequence[int], refused: int) -> Iterator[Instruction]:
    yield _load(argument)
    for value in values:
        yield (_IF_EQUAL, 0, 1, value)
        yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _ERRNO | refused)
