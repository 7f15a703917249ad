"""What a parser process gives up before the first byte of a document, and what then is really refused to it.

A hostile document may take over a parser's native code, so that the limits which count are the kernel's. On Linux they
come in four steps, each of which may be missing on a machine: ``STEPS``. Elsewhere, and beside them, there are
resource limits and an audit hook, which binds Python code alone. ``refusals`` tries what is refused.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from indexer.documents import landlock, system_calls

if sys.platform != "win32":
    import resource

STEPS = ("network", "changes", "reading", "calls")
"""network: an empty network namespace. changes: Landlock on everything but reading. reading: Landlock on opening files
other than those of the interpreter and its libraries. calls: a filter of system calls. In the order they are taken."""

LEFT_OUT = "left out: a library does not work with it"
"""Why a step is not in force that the caller of ``confine`` did not want."""

NOT_HERE = "this system offers nothing of the kind"
"""Why no step is in force on a system that is no Linux."""

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_EXTRA_ADDRESS_SPACE = 4 << 30
"""Bytes of address space beyond the memory limit: code, thread stacks and mapped files are not memory in use."""
_FORBIDDEN_EVENTS = frozenset({
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "urllib.Request",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Confinement:
    """The limits that a process has taken.

    Attributes:
        steps: Those of ``STEPS`` that are in force.
        unavailable: For each other step why not, one sentence.
    """

    steps: tuple[str, ...]
    unavailable: dict[str, str]


def confine(memory_bytes: int, without: Collection[str] = ()) -> Confinement:
    """Limit this process irrevocably, before it starts a thread.

    Args:
        memory_bytes: Private memory, bytes; 0 for no limit. POSIX only.
        without: Steps to leave out.
    """
    sys.addaudithook(_forbid)
    _set_limits(memory_bytes)
    steps: dict[str, Callable[[], object]] = {
        "network": _enter_empty_network_namespace,
        "changes": landlock.give_up_changes,
        "reading": lambda: landlock.give_up_reading(but=readable_paths()),
        "calls": system_calls.allow_only_reading,
    }
    taken, unavailable = [], {}
    for name in STEPS:
        if name in without:
            unavailable[name] = LEFT_OUT
        elif sys.platform != "linux":
            unavailable[name] = NOT_HERE
        else:
            try:
                steps[name]()
                taken.append(name)
            except (OSError, AttributeError) as error:  # AttributeError: a C library without one of the functions
                unavailable[name] = _sentence(error)
    return Confinement(tuple(taken), unavailable)


def _sentence(error: Exception) -> str:
    code = getattr(error, "errno", None)
    why = f" ({os.strerror(code)})" if code else ""
    return f"{getattr(error, 'strerror', None) or error}{why}"


def _enter_empty_network_namespace() -> None:
    """Move into an empty network namespace: directly as root, else through a new user namespace.

    Raises:
        OSError: The kernel does not permit it.
    """
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(_CLONE_NEWNET) and unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the kernel grants no network namespace")


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no connection, no name resolution, no child process; asyncio's socket pair stays allowed."""
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"a parser process may not do this: {event}")


def _set_limits(memory_bytes: int) -> None:
    """Resource limits of POSIX: private memory, no core dump, no file written."""
    if sys.platform == "win32":
        return
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    if memory_bytes:
        _set_limit(resource.RLIMIT_DATA, memory_bytes)
        _set_limit(resource.RLIMIT_AS, memory_bytes + _EXTRA_ADDRESS_SPACE)


def _set_limit(kind: int, value: int) -> None:
    assert sys.platform != "win32"
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        sys.stderr.write(f"warning: resource limit {kind} could not be set\n")


# What stays readable ------------------------------------------------------------------------------------------------

_SYSTEM_PATHS = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone",
    "/usr/share/zoneinfo", "/nix/store", "/gnu/store",
    "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/X11/fonts", "/dev/null", "/dev/urandom",
    "/proc/self/cgroup", "/sys/fs/cgroup", "/sys/devices/system/cpu",
)  # fmt: skip
"""Shared libraries (of Nix and Guix too), time zones, the fonts that pdfium measures text by, and how many processors
libraries may use."""
_PACKAGE_DIRECTORIES = ("site-packages", "dist-packages")
_PACKAGES = ("xberg", "pypdfium2", "tokenizers")
"""Packages by which a directory of any other name is known as one that holds installed packages."""


def readable_paths() -> Iterator[str]:
    """The interpreter, its libraries, this package, and what they read of the system; nothing of the user's.

    Of the search path for modules only directories of installed packages count: it may also hold a project of the
    user's, as the directory of a checkout does, of which this package is allowed alone.
    """
    yield from _SYSTEM_PATHS
    yield os.path.dirname(os.__file__)
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        yield from (os.path.join(prefix, name) for name in ("lib", "lib64"))
    for path in sys.path:
        installed = os.path.basename(path.rstrip(os.sep)) in _PACKAGE_DIRECTORIES
        if installed or any(os.path.exists(os.path.join(path, name)) for name in _PACKAGES):
            yield path
    yield os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    yield from _mapped_libraries()


def _mapped_libraries() -> Iterator[str]:
    """Files of code that are mapped already, wherever the system has them."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line[line.index("/") :].rstrip("\n") for line in maps if "/" in line and " r-xp " in line}
    except OSError:
        return
    yield from sorted(paths)


# What is refused ----------------------------------------------------------------------------------------------------

REFUSALS = {
    "network": "connect to an address of the internet or of this machine",
    "sockets": "open a socket, also one of this machine's other programs",
    "processes": "start a process",
    "programs": "start another program",
    "writing": "write, delete or rename a file",
    "attributes": "change the rights or the owner of a file",
    "signals": "end or signal another process",
    "memory": "look into another process",
    "reading": "read a file of the user's other than the one it was given",
}
"""What native code of a parser process may try, by name: each is refused, or it is possible."""
REFUSED_BY = {
    "network": ("network", "calls"),
    "sockets": ("calls",),
    "processes": ("calls",),
    "programs": ("changes", "calls"),
    "writing": ("changes", "calls"),
    "attributes": ("calls",),
    "signals": ("changes", "calls"),
    "memory": ("changes", "calls"),
    "reading": ("reading",),
}
"""The steps each of which refuses it; ``changes`` refuses signals from Landlock's version 6 on."""

_AF_UNIX, _AF_INET, _AF_NETLINK = 1, 2, 16
_SOCK_STREAM, _SOCK_DGRAM, _CLOEXEC = 1, 2, 0o2000000
_FORBIDDEN = frozenset({1, 13, 38})  # EPERM, EACCES, ENOSYS
_NETWORK_UNREACHABLE = 101
_FORBIDDEN_EXIT = 77
_VM_READ = {"x86_64": 310, "aarch64": 270}


def refusals(confinement: Confinement) -> tuple[str, ...]:
    """Try each of ``REFUSALS`` by native calls that change nothing where they are possible; those that were refused.

    Empty where there is no Linux: nothing is tried there, as nothing binds native code.
    """
    if sys.platform != "linux":
        return ()
    library = ctypes.CDLL(None, use_errno=True)
    tries: dict[str, Callable[[], bool]] = {
        "network": lambda: _no_connection(library, _SOCK_STREAM) and _no_connection(library, _SOCK_DGRAM),
        "sockets": lambda: all(_no_socket(library, family) for family in (_AF_UNIX, _AF_INET, _AF_NETLINK)),
        "processes": lambda: _fork(library, lambda: 0) is None,
        "programs": lambda: _no_program(library),
        "writing": lambda: _forbidden(library.open(b"/dev/null", os.O_WRONLY)) and _no_truncation(confinement),
        "attributes": lambda: _forbidden(library.chmod(b"", 0)),
        "signals": lambda: _forbidden(library.kill(os.getppid(), 0)),
        "memory": lambda: _no_other_memory(library),
        "reading": lambda: (
            _forbidden(library.open(b"/etc/passwd", os.O_RDONLY)) and _forbidden(library.open(b"/", os.O_RDONLY))
        ),
    }
    return tuple(name for name in REFUSALS if tries[name]())


def _forbidden(outcome: int) -> bool:
    """Whether a call failed because it is not permitted; closes the descriptor that it gave otherwise."""
    if outcome < 0:
        return ctypes.get_errno() in _FORBIDDEN
    if outcome > 2:
        os.close(outcome)
    return False


def _no_socket(library: Any, family: int) -> bool:
    return _forbidden(library.socket(family, _SOCK_DGRAM | _CLOEXEC, 0))


def _no_connection(library: Any, kind: int) -> bool:
    """Whether no address of this machine can be connected to: port 1, which sends nothing where it is a datagram."""
    made = library.socket(_AF_INET, kind | _CLOEXEC, 0)
    if made < 0:
        return ctypes.get_errno() in _FORBIDDEN
    address = _AF_INET.to_bytes(2, "little") + (1).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    failed = library.connect(made, address, len(address)) < 0 and ctypes.get_errno() in _FORBIDDEN | {
        _NETWORK_UNREACHABLE
    }
    os.close(made)
    return failed


def _fork(library: Any, action: Callable[[], int]) -> int | None:
    """Exit code of a child process that does something and ends; None when none may be started."""
    child = library.fork()
    if child < 0:
        return None
    if child == 0:
        library._exit(action())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _no_program(library: Any) -> bool:
    """Whether the interpreter cannot be started, tried in a child process where there can be one."""
    if _forbidden(library.execve(None, None, None)):
        return True

    def start() -> int:
        words = (ctypes.c_char_p * 5)(b"python", b"-ISc", b"", None)
        library.execve(os.fsencode(sys.executable), words, None)
        return _FORBIDDEN_EXIT if ctypes.get_errno() in _FORBIDDEN else 0

    return _fork(library, start) == _FORBIDDEN_EXIT


def _no_truncation(confinement: Confinement) -> bool:
    """Whether no file can be emptied: the one change that Landlock before version 3 does not know."""
    if "calls" in confinement.steps:
        return True
    return "changes" in confinement.steps and bool(landlock.handled(landlock.TRUNCATE, landlock.version()))


def _no_other_memory(library: Any) -> bool:
    """Whether the memory of the process that started this one cannot be read; address 1 is none that has any."""
    number = _VM_READ.get(os.uname().machine)
    if number is None:
        return False
    piece = (ctypes.c_size_t * 2)(1, 1)
    return _forbidden(library.syscall(ctypes.c_long(number), os.getppid(), piece, 1, piece, 1, 0))
