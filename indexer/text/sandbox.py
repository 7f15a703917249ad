"""What a worker process takes from itself before it opens a stranger's file: memory, network, children, writing."""

from __future__ import annotations

import sys
from typing import Any

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_ADDRESSES = 4 << 30
"""Bytes of address space beyond the memory limit: code, thread stacks and mapped files are not memory in use."""
_REFUSED = frozenset({
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "urllib.Request",
})  # fmt: skip


def confine(memory_bytes: int) -> str:
    """Limit this process for good; returns how the network is kept out: ``namespace`` or ``blocked``.

    ``namespace`` (Linux, where the kernel permits): no interface exists for any code of the process. ``blocked``:
    Python code cannot open connections; the libraries are configured not to.
    """
    network = "namespace" if sys.platform == "linux" and _own_network() else "blocked"
    sys.addaudithook(_refuse)
    _limit(memory_bytes)
    return network


def _own_network() -> bool:
    """Move into an empty network namespace: with the right to (root), else through a user namespace of its own."""
    import ctypes  # noqa: PLC0415  # workers on Linux only

    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None:
        return False
    return bool(unshare(_CLONE_NEWNET) == 0 or unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no connection, no look-up, no child process; asyncio's own socket pair stays allowed."""
    if event in _REFUSED:
        raise PermissionError(f"a parser process may not do this: {event}")


def _limit(memory_bytes: int) -> None:
    """Resource limits of POSIX: private memory, no core dump, no file written."""
    try:
        import resource  # noqa: PLC0415  # POSIX only
    except ImportError:
        return
    _lower(resource, resource.RLIMIT_CORE, 0)
    _lower(resource, resource.RLIMIT_FSIZE, 0)
    if memory_bytes:
        _lower(resource, resource.RLIMIT_DATA, memory_bytes)
        _lower(resource, resource.RLIMIT_AS, memory_bytes + _ADDRESSES)


def _lower(resource: Any, kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        sys.stderr.write(f"warning: resource limit {kind} could not be set\n")
