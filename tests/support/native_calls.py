"""What native code of a confined process can do, tried through the C library: past Python's audit hooks.

Run as a program: ``native_calls.py LEFT_OUT SCRATCH VICTIM PORT``. It confines itself without the steps that LEFT_OUT
names (separated by commas), tries every call of ``ATTEMPTS`` on the files of SCRATCH, on the process VICTIM and on the
TCP and UDP port PORT of this machine, and prints JSON: the steps in force, why others are not, and for each attempt
whether it succeeded.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from indexer.documents import landlock  # noqa: E402
from indexer.documents.confinement import confine, refusals  # noqa: E402

X86 = os.uname().machine == "x86_64"
LIBRARY = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # on x86-64, on ARM64
    "fork": (57, None), "clone": (56, 220), "execveat": (322, 281), "memfd_create": (319, 279), "openat2": (437, 437),
    "mknodat": (259, 33), "setxattr": (188, 5), "utimensat": (280, 88), "fchmodat2": (452, 452),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219),
    "userfaultfd": (323, 282), "mount": (165, 40), "unshare": (272, 97), "chroot": (161, 51), "open_tree": (428, 428),
    "fsopen": (430, 430), "name_to_handle_at": (303, 264), "seccomp": (317, 277), "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122), "setpriority": (141, 140), "landlock_create_ruleset": (444, 444),
    "clone3": (435, 435), "ptrace": (101, 117), "sendmsg": (46, 211), "getpid": (39, 172), "kcmp": (312, 272),
}  # fmt: skip
SIGCONT, SIGCHLD, AT_FDCWD = 18, 17, -100
VIRTUAL_SOCKETS, KERNEL_CRYPTO, PACKETS, NETLINK = 40, 38, 17, 16


def call(name: str, *arguments: object) -> int:
    """A system call by its number, -1 and errno where it fails."""
    number = NUMBERS[name][0 if X86 else 1]
    LIBRARY.syscall.restype = ctypes.c_long
    longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(LIBRARY.syscall(ctypes.c_long(number), *longs))


class Place:
    """Files, processes and sockets that the attempts aim at; made by the test."""

    def __init__(self, scratch: str, victim: int, port: int, given: int) -> None:
        self.scratch, self.victim, self.port, self.given = scratch, victim, port, given

    def path(self, name: str) -> bytes:
        """A path below the scratch directory, as C takes it."""
        return os.fsencode(f"{self.scratch}/{name}")


def connected(family: int, kind: int, address: bytes) -> bool:
    made = LIBRARY.socket(family, kind, 0)
    return made >= 0 and LIBRARY.connect(made, address, len(address)) == 0


def internet(port: int) -> bytes:
    return (2).to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)


def local(path: bytes) -> bytes:
    return (1).to_bytes(2, "little") + path + (b"\0" if not path.startswith(b"\0") else b"")


def datagram_by_pair(place: Place) -> bool:
    """From an end of a socket pair to a socket by its path."""
    ends, to = (ctypes.c_int * 2)(), local(place.path("datagrams"))
    if LIBRARY.socketpair(1, 2, 0, ends):
        return False
    return bool(LIBRARY.sendto(ends[0], b"x", 1, 0, to, len(to)) == 1 or LIBRARY.connect(ends[0], to, len(to)) == 0)


def ended(child: int) -> bool:
    """Whether a child was made; the child itself ends here."""
    if child == 0:
        LIBRARY._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return child > 0


def program_by_descriptor() -> bool:
    """A program that is open, or in no file at all, in a child where there can be one."""
    held = os.open("/bin/true", os.O_PATH)
    child = LIBRARY.fork()
    if child < 0:  # without a child, at least the call itself
        return allowed(call("execveat", -1, b"", None, None, 0))
    if child == 0:
        call("execveat", held, b"", None, None, 0x1000)
        LIBRARY._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def program() -> bool:
    child = LIBRARY.fork()
    if child < 0:  # without a child, at least the call itself
        LIBRARY.execve(None, None, None)
        return ctypes.get_errno() == errno.EFAULT
    if child == 0:
        LIBRARY.execve(b"/bin/true", None, None)
        LIBRARY._exit(9)
    return bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)


def opened(path: bytes, flags: int, mode: int = 0o600) -> bool:
    made = LIBRARY.open(path, flags, ctypes.c_uint(mode))
    if made >= 0:
        os.close(made)
    return bool(made >= 0)


def opened_by_structure(place: Place) -> bool:
    """Open for writing by the call whose flags a filter cannot see."""
    how = (ctypes.c_uint64 * 3)(os.O_WRONLY, 0, 0)
    return call("openat2", AT_FDCWD, place.path("written"), how, 24) >= 0


def mapped(place: Place) -> bool:
    made = LIBRARY.open(place.path("other.txt"), os.O_RDONLY)
    return bool(made >= 0 and bytes(mmap.mmap(made, 0, prot=mmap.PROT_READ)[:4]) == b"text")


def attached(place: Place) -> bool:
    if call("ptrace", 16, place.victim, 0, 0):
        return False
    os.waitpid(place.victim, 0x40000000)
    return call("ptrace", 17, place.victim, 0, 0) == 0


def its_memory(place: Place, name: str) -> bool:
    """Anything but a refusal: address 1 is in no program."""
    piece = (ctypes.c_size_t * 2)(1, 1)
    done = call(name, place.victim, piece, 1, piece, 1, 0)
    return done >= 0 or ctypes.get_errno() == errno.EFAULT


def other_architecture() -> bool:
    """getpid as a 32-bit program calls it, by ``mov eax, 20; int 0x80; ret``."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    start = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(start)() > 0


def done(outcome: int) -> bool:
    return outcome >= 0


def allowed(outcome: int) -> bool:
    """Whether the kernel looked at the arguments, which are wrong, or did it."""
    return outcome >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.EACCES, errno.ENOSYS)


CALLS, FILES, READ = {"calls"}, {"calls", "changes"}, {"reading"}

# Name: the steps each of which refuses it, and the attempt.
ATTEMPTS: dict[str, tuple[set[str], Callable[[Place], bool]]] = {
    "connect by TCP": ({"calls", "network", "tcp"}, lambda p: connected(2, 1, internet(p.port))),
    "connect by UDP": ({"calls", "network"}, lambda p: connected(2, 2, internet(p.port))),
    "open a TCP socket": (CALLS, lambda p: done(LIBRARY.socket(2, 1, 0))),
    "open an IPv6 socket": (CALLS | {"old"}, lambda p: done(LIBRARY.socket(10, 1, 0))),
    "open a unix socket": (CALLS, lambda p: done(LIBRARY.socket(1, 1, 0))),
    "open a netlink socket": (CALLS | {"old"}, lambda p: done(LIBRARY.socket(NETLINK, 3, 0))),
    "open a socket of a virtual machine": (
        CALLS | {"old"},
        lambda p: allowed(LIBRARY.socket(VIRTUAL_SOCKETS, 1, 0)),
    ),
    "open a socket of the kernel's cryptography": (
        CALLS | {"old"},
        lambda p: allowed(LIBRARY.socket(KERNEL_CRYPTO, 5, 0)),
    ),
    "open a packet socket": (CALLS | {"unprivileged"}, lambda p: allowed(LIBRARY.socket(PACKETS, 3, 0))),
    "connect to a unix socket": ({"calls", "unix"}, lambda p: connected(1, 1, local(p.path("stream")))),
    "connect to an abstract unix socket": (
        {"calls", "network", "scopes"},
        lambda p: connected(1, 1, local(b"\0" + p.path("abstract"))),
    ),
    "send to a unix socket from a pair": ({"calls", "unix"}, datagram_by_pair),
    "fork": (CALLS, lambda p: ended(LIBRARY.fork())),
    "clone without a thread's flags": (CALLS, lambda p: ended(call("clone", SIGCHLD, 0, 0, 0, 0))),
    "clone3": (CALLS, lambda p: allowed(call("clone3", None, 0))),
    "start a program": (FILES, lambda p: program()),
    "start a program by its descriptor": (FILES, lambda p: program_by_descriptor()),
    "make a file in memory": (CALLS, lambda p: done(call("memfd_create", b"x", 0))),
    "system": (FILES, lambda p: LIBRARY.system(b"exit 7") == 7 << 8),
    "unlink": (FILES, lambda p: LIBRARY.unlink(p.path("unlinked")) == 0),
    "rename": (FILES, lambda p: LIBRARY.rename(p.path("renamed"), p.path("renamed.2")) == 0),
    "truncate": ({"calls", "truncate"}, lambda p: LIBRARY.truncate(p.path("truncated"), ctypes.c_long(0)) == 0),
    "open for writing": (FILES, lambda p: opened(p.path("written"), os.O_WRONLY)),
    "open for reading and writing": (FILES, lambda p: opened(p.path("written"), os.O_RDWR)),
    "open for appending": (FILES, lambda p: opened(p.path("written"), os.O_WRONLY | os.O_APPEND)),
    "open with truncation": ({"calls", "truncate"}, lambda p: opened(p.path("truncated"), os.O_RDONLY | os.O_TRUNC)),
    "make a file": (FILES, lambda p: opened(p.path("made"), os.O_RDONLY | os.O_CREAT)),
    "make a nameless file": (FILES | {"old"}, lambda p: opened(p.path(""), os.O_RDWR | 0o20000000 | os.O_DIRECTORY)),
    "open for writing by openat2": (FILES, opened_by_structure),
    "mkdir": (FILES, lambda p: LIBRARY.mkdir(p.path("directory"), 0o700) == 0),
    "rmdir": (FILES, lambda p: LIBRARY.rmdir(p.path("removed")) == 0),
    "symlink": (FILES, lambda p: LIBRARY.symlink(b"/etc", p.path("link")) == 0),
    "link": (FILES, lambda p: LIBRARY.link(p.path("other.txt"), p.path("hard")) == 0),
    "make a pipe with a name": (FILES, lambda p: done(call("mknodat", AT_FDCWD, p.path("fifo"), 0o010600, 0))),
    "chmod": (CALLS, lambda p: LIBRARY.chmod(p.path("other.txt"), 0o644) == 0),
    "fchmodat2": (CALLS | {"old"}, lambda p: allowed(call("fchmodat2", AT_FDCWD, p.path("no such"), 0o644, 0))),
    "fchmod of the given file": (CALLS, lambda p: LIBRARY.fchmod(p.given, 0o600) == 0),
    "chown": (CALLS, lambda p: LIBRARY.chown(p.path("other.txt"), os.getuid(), os.getgid()) == 0),
    "set an extended attribute": (
        CALLS | {"old"},
        lambda p: allowed(call("setxattr", p.path("other.txt"), b"user.x", b"1", 1, 0)),
    ),
    "set times": (CALLS, lambda p: done(call("utimensat", AT_FDCWD, p.path("other.txt"), None, 0))),
    "mount": (CALLS | {"unprivileged"}, lambda p: allowed(call("mount", b"x", b"/no such", b"tmpfs", 0, None))),
    "read another file": (READ, lambda p: opened(p.path("other.txt"), os.O_RDONLY)),
    "map another file": (READ, mapped),
    "list a directory": (READ, lambda p: opened(p.path(""), os.O_RDONLY | os.O_DIRECTORY)),
    "read the system's users": (READ, lambda p: opened(b"/etc/passwd", os.O_RDONLY)),
    "read the own program's arguments": (READ, lambda p: opened(b"/proc/self/cmdline", os.O_RDONLY)),
    "read another process": (READ, lambda p: opened(b"/proc/%d/environ" % p.victim, os.O_RDONLY)),
    "open the memory of another process": (
        READ | {"yama", "changes"},
        lambda p: opened(b"/proc/%d/mem" % p.victim, os.O_RDONLY),
    ),
    "open the own memory for writing": (FILES | READ, lambda p: opened(b"/proc/self/mem", os.O_RDWR)),
    "open the given file again for writing": (FILES, lambda p: opened(b"/proc/self/fd/%d" % p.given, os.O_RDWR)),
    "signal": ({"calls", "scopes"}, lambda p: LIBRARY.kill(p.victim, SIGCONT) == 0),
    "signal a group": ({"calls", "scopes"}, lambda p: LIBRARY.kill(-p.victim, SIGCONT) == 0),
    "signal by tkill": ({"calls", "scopes"}, lambda p: call("tkill", p.victim, SIGCONT) == 0),
    "signal by tgkill": ({"calls", "scopes"}, lambda p: call("tgkill", p.victim, p.victim, SIGCONT) == 0),
    "queue a signal": (CALLS, lambda p: allowed(call("rt_sigqueueinfo", p.victim, SIGCONT, None))),
    "open a process": (CALLS, lambda p: done(call("pidfd_open", p.victim, 0))),
    "take a descriptor": (CALLS | {"old"}, lambda p: allowed(call("pidfd_getfd", -1, 0, 0))),
    "have signals sent": (CALLS, lambda p: LIBRARY.fcntl(p.given, 8, p.victim) == 0),
    "trace": (FILES | {"yama"}, attached),
    "read another's memory": (FILES | {"yama"}, lambda p: its_memory(p, "process_vm_readv")),
    "write another's memory": (FILES | {"yama"}, lambda p: its_memory(p, "process_vm_writev")),
    "limit another process": (CALLS, lambda p: done(call("prlimit64", p.victim, 4, None, None))),
    "set a limit of its own": (CALLS, lambda p: done(call("prlimit64", 0, 4, (ctypes.c_uint64 * 2)(0, 0), None))),
    "slow another process": (CALLS, lambda p: call("setpriority", 0, p.victim, 6) == 0),
    "move another process": (CALLS, lambda p: allowed(call("sched_setaffinity", p.victim, 0, None))),
    "io_uring": (CALLS | {"unprivileged"}, lambda p: allowed(call("io_uring_setup", 1, None))),
    "bpf": (CALLS | {"unprivileged"}, lambda p: allowed(call("bpf", 0, None, 0))),
    "perf": (CALLS | {"unprivileged"}, lambda p: allowed(call("perf_event_open", None, 0, -1, -1, 0))),
    "keys": (CALLS | {"unprivileged"}, lambda p: allowed(call("keyctl", 0, -3, 0, 0, 0))),
    "userfaultfd": (CALLS | {"unprivileged"}, lambda p: allowed(call("userfaultfd", 1 << 30))),
    "a namespace of its own": (CALLS | {"unprivileged"}, lambda p: done(call("unshare", 0x00020000 | 0x10000000))),
    "chroot": (CALLS | {"unprivileged"}, lambda p: allowed(call("chroot", b"/no such"))),
    "a file by its handle": (
        CALLS | {"old"},
        lambda p: allowed(call("name_to_handle_at", AT_FDCWD, b"/no such", None, None, 0)),
    ),
    "another filter": (CALLS, lambda p: allowed(call("seccomp", 2, 0, None))),
}  # fmt: skip
if X86:
    ATTEMPTS["a call of the 32-bit form"] = (CALLS | {"no x32"}, lambda p: done(LIBRARY.syscall(0x40000000 | 39)))
    ATTEMPTS["a call of another architecture"] = (CALLS | {"no i386"}, lambda p: other_architecture())

OFTEN_REFUSED = frozenset({"unprivileged", "yama", "no x32", "no i386", "old"})
"""Marks of attempts that a system may refuse to every process: to users without privileges, by Yama, or as unknown."""


def refusing(steps: set[str], version: int) -> set[str]:
    """The steps in force, and what Landlock's version adds to the step ``changes``."""
    known = version if "changes" in steps else 0
    since = {"truncate": 3, "tcp": 4, "scopes": 6, "unix": 9}
    return steps | {name for name, first in since.items() if known >= first}


def still_works(given: int) -> dict[str, bool]:
    """What parsing needs."""
    heard: list[int] = []
    thread = threading.Thread(target=lambda: heard.append(1))
    thread.start()
    thread.join()
    one, other = socket.socketpair()
    one.send(b"x")
    reading, writing = os.pipe()
    os.write(writing, b"x")
    return {
        "a thread": bool(heard),
        "a socket pair": other.recv(1) == b"x",
        "a pipe": os.read(reading, 1) == b"x",
        "the given file": os.pread(given, 5, 0) == b"given",
        "the given file mapped": mmap.mmap(given, 0, prot=mmap.PROT_READ)[:5] == b"given",
        "a module of the standard library": bool(__import__("colorsys")),
        "an encoding": b"\xe4".decode("cp1250") == "ä",
    }


def main() -> None:
    left_out, scratch, victim, port = sys.argv[1:5]
    version = landlock.version()
    given = os.open(f"{scratch}/given.txt", os.O_RDONLY)
    taken = confine(0, without=[name for name in left_out.split(",") if name])
    place = Place(scratch, int(victim), int(port), given)
    outcome = {
        "steps": taken.steps,
        "refusing": sorted(refusing(set(taken.steps), version)),
        "unavailable": taken.unavailable,
        "works": still_works(given),
        "refused": refusals(taken),
        "succeeded": {name: attempt(place) for name, (_, attempt) in ATTEMPTS.items()},
    }
    sys.stdout.write(json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
