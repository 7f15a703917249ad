"""``folder-mcp owner``: a process that tries to become the owner of a data directory. Relays start it, people never.

It reports on its stdout how that went, in one line (``READY``, ``BUSY``, ``ERROR why``), and closes the pipe.
"""

from __future__ import annotations

import contextlib
import os

from mcp_server.processes.launch import parse_relay_arguments
from mcp_server.processes.owner_lock import OwnerLock, locate, owner_files_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server.processes.owner import OwnerOpener


def main(argv: Sequence[str], environ: Mapping[str, str], opener: OwnerOpener | None = None) -> int:
    """Take the owner lock and run the owner, or leave quietly when another process holds it.

    Args:
        argv: The arguments after ``owner``.
        environ: The environment.
        opener: Opens the engine; None is the real one.

    Returns:
        The exit code: 0, also when there is an owner already; 2 for a wrong configuration; 75 to be replaced.
    """
    tcp = "--tcp" in argv
    arguments = parse_relay_arguments(["serve", *(word for word in argv if word != "--tcp")])
    if arguments is None:
        report("ERROR wrong arguments for an owner")
        return 2
    try:
        location = locate(arguments.config, arguments.data_dir, environ)
        owner_files = owner_files_for(location.data_dir)
    except (OSError, ValueError) as error:
        report(f"ERROR {error}")
        return 2
    with OwnerLock(owner_files) as lock:
        try:
            if not lock.acquire():
                report("BUSY")
                return 0
        except OSError as error:
            report(f"ERROR {error}")
            return 1
        # Only now: a process that does not get the lock has imported next to nothing.
        from mcp_server.processes import owner  # noqa: PLC0415

        code, start_successor = owner.run_owner(location, lock, opener, report, tcp=tcp, verbose=arguments.verbose)
    if start_successor:  # after the lock is released: the successor must get it
        from mcp_server.processes.spawn import Candidate, owner_arguments  # noqa: PLC0415

        Candidate(owner_arguments(location, verbose=arguments.verbose), owner_files, environ).detach()
    owner.exit_now(code)
    return code


def report(line: str) -> None:
    """Report once, to the process that started this one, how it went; then stdout is where stderr is."""
    with contextlib.suppress(OSError):  # it did not wait
        os.write(1, (" ".join(line.split()) + "\n").encode("utf-8", "replace"))
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
