"""Starts other processes of this program: the detached owner, or a server for one relay when there can be no owner.

Never forks without exec: a fork would keep the lock and the sockets of its parent. Standard library only.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time

from mcp_server.version import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mcp_server.processes.owner_lock import Location, OwnerFiles

_DETACHED_FLAGS = 0x00000008 | 0x00000200  # Windows: DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP
MAX_LOG = 1_000_000
"""Bytes of ``owner.log`` after which it is truncated."""

# The variables that the owner needs. All others belong to the client that happened to be the first to start it.
_USER_VARIABLES = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "VIRTUAL_ENV",
        "PYTHON_PATH",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SYSTEMROOT",
        "SYSTEMDRIVE",
        "WINDIR",
        "COMSPEC",
        "PATHEXT",
        "USERPROFILE",
        "HOMEDRIVE",
        "HOMEPATH",
        "APPDATA",
        "LOCALAPPDATA",
        "PROGRAMDATA",
        "PROGRAMFILES",
        "USERNAME",
        "NUMBER_OF_PROCESSORS",
        "PROCESSOR_ARCHITECTURE",
    ]
)
_A_PACKAGE = "anyio"
"""A package that an installation of this program has."""
_USER_PREFIXES = ("LC_", "XDG_", "FOLDER_MCP_", "HF_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "OMP_", "MKL_", "AWS_")


def user_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that is the user's and not one client's, with our code on ``PYTHONPATH``.

    What makes Python or the system's loader run code of other places (``PYTHONPATH``, ``PYTHONHOME``, ``LD_PRELOAD``)
    is a client's: an editor sets it for the project that is open, which anybody may have written. The first two are
    kept only where the installation itself depends on them.
    """
    found = {
        name: value
        for name, value in environ.items()
        if name.upper() in _USER_VARIABLES or name.upper().startswith(_USER_PREFIXES)
    }
    return _with_our_code(found | needed_by_installation(environ))


def needed_by_installation(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``PYTHONPATH`` where our packages are found by it alone, ``PYTHONHOME`` where Python's own library is."""
    from importlib.machinery import PathFinder  # noqa: PLC0415 - a relay that finds a running owner does not need it

    kept = {}
    paths = [os.path.abspath(path) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    others = [path for path in sys.path if os.path.abspath(path or os.curdir) not in paths]
    if paths and PathFinder.find_spec(_A_PACKAGE, others) is None:
        kept["PYTHONPATH"] = environ["PYTHONPATH"]
    if environ.get("PYTHONHOME") and sys.prefix == sys.base_prefix and not _finds_its_library():
        kept["PYTHONHOME"] = environ["PYTHONHOME"]
    return kept


def _finds_its_library() -> bool:
    """Whether this Python's library lies beside its program, or above it, where Python looks by itself."""
    beside = os.path.dirname(os.path.realpath(sys.executable))
    library = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [("lib", library, "os.py"), ("Lib", "os.py"), ("lib64", library, "os.py")]
    return any(
        os.path.isfile(os.path.join(place, *parts))
        for place in (beside, os.path.dirname(beside))
        for parts in candidates
    )


def owner_arguments(location: Location, *, verbose: bool) -> list[str]:
    """Return the arguments that start an owner of a data directory."""
    return ["owner", *location_arguments(location, verbose=verbose)]


def location_arguments(location: Location, *, verbose: bool) -> list[str]:
    """Return the options that point another process of ours at the same configuration and data directory."""
    config = ["--config", location.config] if location.config else []
    return [*config, "--data-dir", location.data_dir, *(["--verbose"] if verbose else [])]


def _with_our_code(environ: Mapping[str, str]) -> dict[str, str]:
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != ROOT]
    return {**environ, "PYTHONPATH": os.pathsep.join([ROOT, *paths])}


def _popen(arguments: Sequence[str], *, piped: bool, **options: Any) -> subprocess.Popen[bytes]:
    import subprocess  # noqa: PLC0415 - a relay that finds a running owner does not need it

    command = [sys.executable, "-P", "-m", "mcp_server", *arguments]
    stdin = subprocess.PIPE if piped else subprocess.DEVNULL
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, **options)


class Candidate:
    """A process that tries to become the owner, and the pipe on which it reports how that went."""

    def __init__(self, arguments: Sequence[str], owner_files: OwnerFiles, environ: Mapping[str, str]) -> None:
        """Start it, detached from everything of this process.

        Raises:
            OSError: It cannot be started.
        """
        log = os.open(owner_files.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(log).st_size > MAX_LOG:
                os.ftruncate(log, 0)
            self._process = _popen(
                arguments,
                piped=False,
                stderr=log,
                env=user_environment(environ),
                cwd=os.path.abspath(os.sep),
                close_fds=True,
                start_new_session=sys.platform != "win32",
                creationflags=_DETACHED_FLAGS if sys.platform == "win32" else 0,
            )
        finally:
            os.close(log)

    def wait(self, limit: float) -> str:
        """Return its report: ``READY``, ``BUSY`` (there is an owner), ``ERROR ...``; empty when the time is up.

        Args:
            limit: Seconds to wait.
        """
        pipe = self._process.stdout
        assert pipe is not None
        fd, report, deadline = pipe.fileno(), b"", time.monotonic() + limit
        while b"\n" not in report:
            if sys.platform != "win32" and not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return ""
            data = os.read(fd, 4096)
            if not data:
                return "ERROR " + (report.decode("utf-8", "replace") or "it ended without a word; see owner.log")
            report += data
        return report.decode("utf-8", "replace").strip()

    def detach(self) -> None:
        """Let it live on; a thread waits for its end, so that it leaves no zombie behind."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        threading.Thread(target=self._process.wait, name="reaper", daemon=True).start()


def start_server(arguments: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server for one relay, on pipes; it ends when they close.

    Raises:
        OSError: It cannot be started.
    """
    return _popen(arguments, piped=True, env=_with_our_code(environ), bufsize=0)
