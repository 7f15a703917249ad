"""``folder-mcp``: runs one command line. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from indexer.errors import ConfigError, FolderError, FolderMcpError, first_error
from mcp_server import logs
from mcp_server.cli import console
from mcp_server.cli.arguments import COMMANDS, parse
from mcp_server.cli.call import Call
from mcp_server.processes.open_engine import open_real
from mcp_server.processes.owner_lock import NoRuntimeDirectory

if TYPE_CHECKING:
    from mcp_server.engine_port import Opener

INTERRUPTED = 130


def main(argv: Sequence[str], environ: Mapping[str, str], opener: Opener = open_real) -> int:
    """Run one command line.

    Args:
        argv: The arguments, without the program's name.
        environ: The environment.
        opener: Opens the engine.

    Returns:
        The exit code.
    """
    args = parse(argv)
    if args.command != "serve":  # which says that they are closed
        _open_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that an ASCII terminal lacks must not end a command
            stream.reconfigure(errors="replace")
    call = Call(args, environ, opener)
    try:
        if args.command == "doctor":  # it accepts a wrong configuration, and writes no log
            logs.configure(None, verbose=args.verbose)
        elif args.command != "serve":  # it does this itself: it claims stdin and stdout first
            logs.configure(logs.folder_for(call.config.data_dir), verbose=args.verbose)
        code = _function(args.command)(call)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        console.complain("interrupted; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(error, verbose=args.verbose)
    return code


def _open_standard_descriptors() -> None:
    """Open what we were started without: else the next file that is opened becomes stdout."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _function(command: str) -> Callable[[Call], int]:
    """Import the module of a command, and of no other; return the function that runs it."""
    module, _, name = COMMANDS[command].function.partition(":")
    run: Callable[[Call], int] = getattr(importlib.import_module(f"mcp_server.cli.{module}"), name)
    return run


def _failed(error: Exception, *, verbose: bool) -> int:
    """Report the error; return the exit code."""
    cause = first_error(error)
    if verbose:
        traceback.print_exception(error)
    if isinstance(cause, FolderMcpError):
        console.complain(str(cause))
        return 2 if isinstance(cause, ConfigError | FolderError) else 1
    if isinstance(cause, BrokenPipeError):
        return 0
    if isinstance(cause, NoRuntimeDirectory):
        console.complain(str(cause))
        return 1
    console.complain(f"failed with {type(cause).__name__}: {cause}; run it again with -v for the details")
    return 1
