"""Starting another process of ours: the detached owner, or a server of one's own when there can be no owner.

Never forks without exec: a fork would hold what its parent holds. Standard library only.
"""

from __future__ import annotations

import os
import select
import sys
import time

from mcp_server.processes.owner_lock import Place
from mcp_server.version import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

_DETACHED = 0x00000008 | 0x00000200  # Windows: DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP
MAX_LOG = 1_000_000
"""Bytes of ``owner.log`` after which it is begun anew."""

# What the owner needs of the environment. Everything else belongs to the client that happened to be first.
_KEPT = frozenset(
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
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHON_PATH",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
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
_KEPT_BEGINNINGS = ("LC_", "XDG_", "FOLDER_MCP_", "HF_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "OMP_", "MKL_", "AWS_")


def kept(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that is the user's and not one client's; our code is found through it."""
    found = {
        name: value
        for name, value in environ.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_BEGINNINGS)
    }
    paths = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path and path != ROOT]
    return {**found, "PYTHONPATH": os.pathsep.join([ROOT, *paths])}


def command(*words: str) -> list[str]:
    """Return the command line of this program with these words."""
    return [sys.executable, "-P", "-m", "mcp_server", *words]


class Candidate:
    """A process that tries to become the owner, and the pipe on which it says how that went."""

    def __init__(self, words: Sequence[str], place: Place, environ: Mapping[str, str]) -> None:
        """Start it, detached from everything of this process.

        Raises:
            OSError: It cannot be started.
        """
        import subprocess  # noqa: PLC0415 - a relay to a living owner does not need it

        log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(log).st_size > MAX_LOG:
                os.ftruncate(log, 0)
            self._process = subprocess.Popen(
                command(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=kept(environ),
                cwd=os.path.abspath(os.sep),
                close_fds=True,
                start_new_session=sys.platform != "win32",
                creationflags=_DETACHED if sys.platform == "win32" else 0,
            )
        finally:
            os.close(log)

    def wait(self, limit: float) -> str:
        """Return what it said: ``READY``, ``BUSY`` (there is an owner), ``ERROR ...``; empty when the time is up.

        Args:
            limit: Seconds to wait.
        """
        pipe = self._process.stdout
        assert pipe is not None
        fd, said, until = pipe.fileno(), b"", time.monotonic() + limit
        while b"\n" not in said:
            if sys.platform != "win32" and not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
                return ""
            data = os.read(fd, 4096)
            if not data:
                return "ERROR " + (said.decode("utf-8", "replace") or "it ended without a word; see owner.log")
            said += data
        return said.decode("utf-8", "replace").strip()

    def forget(self) -> None:
        """Let it live on; a thread takes note of its end, so that it leaves no zombie behind."""
        import threading  # noqa: PLC0415

        if self._process.stdout is not None:
            self._process.stdout.close()
        threading.Thread(target=self._process.wait, name="reaper", daemon=True).start()


def server(words: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server of one's own, on pipes; it ends with them.

    Raises:
        OSError: It cannot be started.
    """
    import subprocess  # noqa: PLC0415

    paths = [ROOT, *(path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != ROOT)]
    env = {**environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0)
