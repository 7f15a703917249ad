"""``folder-mcp owner``: a process that tries to become the owner of a data directory. Relays start it, people never.

It says on its stdout how that went, one line (``READY``, ``BUSY``, ``ERROR why``), and lets go of the pipe.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys

from mcp_server.processes.launch import owner_words, words_of
from mcp_server.processes.owner_lock import OwnerLock, Place, locate, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from mcp_server.engine_port import EnginePort
    from mcp_server.processes.owner import OwnerOpener
    from mcp_server.processes.owner_lock import Location

FAREWELL = 5.0
"""Seconds from the last answer to the end of the process."""


def main(argv: Sequence[str], environ: Mapping[str, str], opener: OwnerOpener | None = None) -> int:
    """Try; become the owner and live, or leave quietly.

    Args:
        argv: The arguments after ``owner``.
        environ: The environment.
        opener: Opens the engine; None is the real one.

    Returns:
        The exit code: 0, also when there is an owner already; 2 for a wrong configuration; 75 to be replaced.
    """
    tcp = "--tcp" in argv
    words = words_of(["serve", *(word for word in argv if word != "--tcp")])
    if words is None:
        say("ERROR wrong arguments for an owner")
        return 2
    try:
        location = locate(words.config, words.data_dir, environ)
        place = place_of(location.data_dir)
    except (OSError, ValueError) as error:
        say(f"ERROR {error}")
        return 2
    with OwnerLock(place) as claim:
        if not claim.take():
            say("BUSY")
            return 0
        code, successor = _live(location, place, claim, opener, tcp=tcp, verbose=words.verbose)
    if successor:
        from mcp_server.processes.spawn import Candidate  # noqa: PLC0415

        Candidate(owner_words(location, verbose=words.verbose), place, environ).forget()
    leave(code)
    return code


def _live(
    location: Location, place: Place, claim: OwnerLock, opener: OwnerOpener | None, *, tcp: bool, verbose: bool
) -> tuple[int, bool]:
    """Be the owner. Returns the exit code, and whether the next one should be started."""
    _forget(place.note)  # whatever it says, it is not so any more
    import anyio  # noqa: PLC0415 - the claim comes first: whoever loses has imported next to nothing

    from indexer.errors import ConfigError  # noqa: PLC0415
    from mcp_server import logs  # noqa: PLC0415
    from mcp_server.processes.connections import listen  # noqa: PLC0415
    from mcp_server.processes.open_engine import open_real  # noqa: PLC0415
    from mcp_server.processes.owner import (  # noqa: PLC0415
        Owner,
        configuration,
    )

    try:
        config = configuration(location)
    except ConfigError as error:
        say(f"ERROR {error}")
        return 2, False
    logs.configure(logs.folder_for(config.data_dir), verbose=verbose)
    gc.disable()  # the SDK makes very many objects that live for ever: a tenth of the time its import takes

    def opened(*given: Any, **named: Any) -> AbstractAsyncContextManager[EnginePort]:
        gc.freeze()
        gc.enable()
        return (opener or open_real)(*given, **named)

    owner = Owner(location, config, place, claim, opened)

    async def live() -> int:
        return await owner.run(listen(place, os.urandom(4).hex(), tcp=tcp), lambda: say("READY"), end_anyway)

    try:
        code = anyio.run(live)
    except OSError as error:
        say(f"ERROR {error}")
        return 1, False
    finally:
        _forget(place.note)
    return code, owner.successor


def say(line: str) -> None:
    """Say how it went, once, to whoever started us; then stdout is where stderr is."""
    with contextlib.suppress(OSError):  # it did not wait
        os.write(1, (" ".join(line.split()) + "\n").encode("utf-8", "replace"))
    with contextlib.suppress(OSError):
        os.dup2(2, 1)


def end_anyway(code: int) -> None:
    """End the process a few seconds from now, whatever its threads are doing."""
    import threading  # noqa: PLC0415

    clock = threading.Timer(FAREWELL, os._exit, (code,))
    clock.daemon = True
    clock.start()


def leave(code: int) -> None:
    """End now: worker threads may be busy, and nothing of theirs is worth waiting for."""
    import logging  # noqa: PLC0415

    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _forget(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
