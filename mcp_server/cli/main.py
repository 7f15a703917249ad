"""``folder-mcp``: arguments, commands, exit codes (0 done, 1 failed, 2 wrong usage or configuration)."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from indexer.errors import ConfigError, FolderError, FolderMcpError, first_error
from mcp_server import logs
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes.open_engine import open_real
from mcp_server.version import release

if TYPE_CHECKING:
    from mcp_server.engine_port import Opener

COMMANDS = {
    "serve": "serve MCP on stdin and stdout: what clients start (also without any command)",
    "install": "add this server to an MCP client's configuration, and try it as the client would",
    "uninstall": "take it out of an MCP client's configuration again",
    "folders": "list, add or remove the folders that are indexed",
    "index": "index now and wait, with a progress bar",
    "search": "search the indexed folders",
    "read": "read an indexed file around a place",
    "status": "what is indexed, what the model slot is doing, what failed and why",
    "ui": "a page in the browser that shows it live, searches, and lists what failed",
    "models": "list the embedding models, or fetch one",
    "doctor": "look for everything that could be wrong, with a remedy for each",
    "bench": "measure search on your own folders and questions, against plain grep",
    "stop": "end the background process that all clients share",
}
_VALUED = ("--config", "--data-dir")
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the help is."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        console.complain(f"{message}; see `{self.prog} --help`")
        sys.exit(2)


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
    command = importlib.import_module(f"mcp_server.cli.{args.command}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows only ASCII must not end a command
            stream.reconfigure(errors="replace")
    call = Call(args, environ, opener)
    try:
        if args.command == "doctor":  # which lives with anything, and changes nothing
            logs.configure(None, verbose=args.verbose)
        elif args.command != "serve":  # which claims the wire first, and lives with a wrong configuration
            logs.configure(logs.folder_for(call.config.data_dir), verbose=args.verbose)
        code: int = command.run(call)
        sys.stdout.flush()
    except KeyboardInterrupt:
        console.complain("interrupted; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(error, verbose=args.verbose)
    return code


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; ends the process with 2 when they are wrong, with 0 for ``--help`` and ``--version``."""
    flags = _flags()
    parser = Parser(prog="folder-mcp", description="Search your own folders by meaning and by word.", parents=[flags])
    parser.add_argument("--version", action="version", version=f"folder-mcp {release()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".", parents=[flags])
        importlib.import_module(f"mcp_server.cli.{name}").add_arguments(sub)
    defaults = argparse.Namespace(config=None, data_dir=None, verbose=False, no_daemon=False)
    return parser.parse_args(with_command(argv, parser), defaults)


def with_command(argv: Sequence[str], parser: Parser) -> list[str]:
    """Put ``serve`` in front when no command is given: alone, or before a folder."""
    words, skip = [], False
    for word in argv:
        if not skip and not word.startswith("-"):
            words.append(word)
        skip = word in _VALUED
    if not words:
        asks = {"-h", "--help", "--version"} & set(argv)
        return [*argv] if asks else ["serve", *argv]
    if words[0] in COMMANDS:
        return [*argv]
    if os.sep in words[0] or words[0].startswith(("~", ".")) or Path(words[0]).is_dir():
        return ["serve", *argv]
    near = difflib.get_close_matches(words[0], COMMANDS, 1)
    hint = f"did you mean {near[0]!r}?" if near else "commands are " + ", ".join(COMMANDS)
    return parser.error(f"there is no command or folder {words[0]!r}; {hint}")


def _flags() -> Parser:
    """The flags every command takes, before or after its name."""
    flags = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    flags.add_argument("--config", metavar="FILE", help="configuration file (FOLDER_MCP_CONFIG)")
    flags.add_argument("--data-dir", metavar="DIR", help="where the index lies (FOLDER_MCP_DATA_DIR)")
    flags.add_argument(
        "--no-daemon", action="store_true", help="do everything in this process, without the shared background process"
    )
    flags.add_argument("-v", "--verbose", action="store_true", help="more detail, tracebacks of errors")
    return flags


def _failed(error: Exception, *, verbose: bool) -> int:
    """Say what went wrong; return the exit code."""
    found = first_error(error)
    if verbose:
        import traceback  # noqa: PLC0415 - only to explain a failure

        traceback.print_exception(error)
    if isinstance(found, FolderMcpError):
        console.complain(str(found))
        return 2 if isinstance(found, ConfigError | FolderError) else 1
    if isinstance(found, BrokenPipeError):
        return 0
    console.complain(f"failed with {type(found).__name__}: {found}; run it again with -v for the details")
    return 1
