"""What can be typed: every command, its arguments, and the function that runs it. Standard library only."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from mcp_server.cli import console
from mcp_server.version import release

FLAGS_WITH_VALUE = ("--config", "--data-dir")
HTTP_ADDRESS = "127.0.0.1:8765"
"""Where ``serve --http`` listens when no address is given."""
SLOT_STATES = ("idle", "loading", "ready", "unloading", "error")
"""States of the model slot that ``status --wait`` can wait for."""


class Parser(argparse.ArgumentParser):
    """Reports an error in one line that names the help."""

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2."""
        console.complain(f"{message}; see `{self.prog} --help`")
        sys.exit(2)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; ends the process with 2 when they are wrong, with 0 for ``--help`` and ``--version``."""
    flags = _common_flags()
    parser = Parser(prog="folder-mcp", description="Search your own folders by meaning and by word.", parents=[flags])
    parser.add_argument("--version", action="version", version=f"folder-mcp {release()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        description = command.about[0].upper() + command.about[1:] + "."
        sub = commands.add_parser(name, help=command.about, description=description, parents=[flags])
        command.add_arguments(sub)
    defaults = argparse.Namespace(config=None, data_dir=None, verbose=False, no_daemon=False)
    return parser.parse_args(with_command(argv, parser), defaults)


def with_command(argv: Sequence[str], parser: Parser) -> list[str]:
    """Put ``serve`` in front when no command is given: alone, or before a folder."""
    words, skip = [], False
    for word in argv:
        if not skip and not word.startswith("-"):
            words.append(word)
        skip = word in FLAGS_WITH_VALUE
    if not words:
        information = {"-h", "--help", "--version"} & set(argv)
        return [*argv] if information else ["serve", *argv]
    if words[0] in COMMANDS:
        return [*argv]
    if os.sep in words[0] or words[0].startswith(("~", ".")) or Path(words[0]).is_dir():
        return ["serve", *argv]
    near = difflib.get_close_matches(words[0], COMMANDS, 1)
    hint = f"did you mean {near[0]!r}?" if near else "commands are " + ", ".join(COMMANDS)
    return parser.error(f"there is no command or folder {words[0]!r}; {hint}")


def _common_flags() -> Parser:
    """Return the flags that every command takes, before or after its name."""
    flags = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    flags.add_argument("--config", metavar="FILE", help="configuration file (FOLDER_MCP_CONFIG)")
    flags.add_argument("--data-dir", metavar="DIR", help="where the index lies (FOLDER_MCP_DATA_DIR)")
    flags.add_argument(
        "--no-daemon", action="store_true", help="do everything in this process, without the shared background process"
    )
    flags.add_argument("-v", "--verbose", action="store_true", help="more detail, tracebacks of errors")
    return flags


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="index it, remember it, and search it by default")
    parser.add_argument("--only", action="store_true", help="show nothing but these folders to the client")
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        nargs="?",
        const=HTTP_ADDRESS,
        help=f"serve MCP by streamable HTTP ({HTTP_ADDRESS})",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="with --http: certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="with --http: its key")
    parser.add_argument("--allow-remote", action="store_true", help="with --http: not only on loopback, unencrypted")
    parser.add_argument("--host", metavar="NAME", action="append", default=[], help="with --http: a name of this host")
    # A relay starts `serve --read-only --because WHY` where the owner does not answer.
    parser.add_argument("--read-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--because", metavar="WHY", default="", help=argparse.SUPPRESS)


def _install(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", help="claude-code, cursor, ...; without it they are listed"
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="what the client searches by default")
    parser.add_argument("--only", action="store_true", help="show nothing but these folders to the client")
    parser.add_argument("--print", action="store_true", help="show the entry and where it would go; write nothing")
    parser.add_argument("--no-check", action="store_true", help="do not start the server afterwards")
    _client_options(parser)


def _uninstall(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", nargs="?", help="claude-code, cursor, ...")
    _client_options(parser)


def _client_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``install`` and ``uninstall`` share."""
    parser.add_argument("--all", action="store_true", help="every client found on this machine")
    parser.add_argument("--name", metavar="NAME", help="the entry's name (folder-mcp)")
    parser.add_argument("--file", metavar="FILE", help="another configuration file of that client")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _folders(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action="list", json=False)
    actions = parser.add_subparsers(dest="action", metavar="list | add | remove")
    listing = actions.add_parser("list", help="show them (also without a word)")
    adding = actions.add_parser("add", help="index one more folder from now on")
    adding.add_argument("folder", metavar="FOLDER")
    adding.add_argument("--model", metavar="M", help="embedding model for this folder, instead of the default")
    adding.add_argument("--allow-broad", action="store_true", help="take a home or system folder as a whole")
    removing = actions.add_parser("remove", help="forget a folder and take its text out of the index")
    removing.add_argument("folder", metavar="FOLDER")
    for each in (listing, adding, removing):
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def _index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="remember and index it; all known ones when none")
    parser.add_argument("--model", metavar="M", help="embedding model for the folders named here")
    parser.add_argument("--json", action="store_true", help="one JSON document when it is done")


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="QUERY", nargs="+", help="a question, a description, or exact words")
    parser.add_argument("-k", "--top-k", metavar="N", type=int, default=8, help="how many hits, 1 to 50 (8)")
    parser.add_argument("--offset", metavar="N", type=int, default=0, help="hits to pass over")
    parser.add_argument("--folder", metavar="F", action="append", help="only this folder; may be given more than once")
    parser.add_argument("--path", metavar="GLOB", help='only files that match, for example "**/*.md"')
    parser.add_argument("--after", metavar="DATE", help="only files modified after it, for example 2026-11-01")
    parser.add_argument("--type", metavar="T", action="append", help="only such files: pdf, md, code, slides, ...")
    parser.add_argument("--context", metavar="N", type=int, default=0, help="chunks around each hit, 0 to 3 (0)")
    parser.add_argument("--max-chars", metavar="N", type=int, help="characters of all passages together")
    parser.add_argument("--mode", choices=("hybrid", "semantic", "keyword"), default="hybrid", help="how (hybrid)")
    parser.add_argument("--json", action="store_true", help="one JSON document, as the MCP tool's result")


def _read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="an indexed file")
    locator = parser.add_mutually_exclusive_group()
    locator.add_argument("--lines", metavar="A-B", help="these lines")
    locator.add_argument("--page", metavar="N", help="this page")
    locator.add_argument("--at", metavar="LOCATOR", help='the locator of a hit, for example "slide 2"')
    parser.add_argument("--max-chars", metavar="N", type=int, default=16_000, help="characters at most (16000)")
    parser.add_argument("--json", action="store_true", help="one JSON document, as the MCP tool's result")


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document; with --watch one a line")
    parser.add_argument("--watch", action="store_true", help="live view (q to quit); one line per change when piped")
    parser.add_argument(
        "--wait",
        metavar="STATE",
        choices=(*SLOT_STATES, "keyword", "semantic", "indexed"),
        help=f"wait for a state of the slot ({', '.join(SLOT_STATES)}), for keyword or semantic search to serve, or "
        "until everything is indexed; exit code 1 when the time is up",
    )
    parser.add_argument("--timeout", metavar="S", type=float, default=60.0, help="seconds --wait waits (60)")


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open", action="store_true", help="open it in the browser as well")


def _models(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action="list", json=False)
    actions = parser.add_subparsers(dest="action", metavar="list | pull | prepare")
    listing = actions.add_parser("list", help="show them, and who uses them (also without a word)")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document")
    pulling = actions.add_parser("pull", help="fetch a model; what an interrupted pull fetched is kept")
    pulling.add_argument("name", metavar="NAME", help="a name of the list, or owner/name on the Hugging Face hub")
    pulling.add_argument(
        "--runtime",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="which form to fetch where there are several; auto follows the list (auto)",
    )
    pulling.add_argument(
        "--no-prepare", action="store_true", help="only fetch it; `models prepare NAME` does the rest later"
    )
    preparing = actions.add_parser(
        "prepare", help="convert pickled weights, and make an ONNX form of what only torch can load"
    )
    preparing.add_argument("name", metavar="NAME", help="a model that is on this machine, or a directory")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document: verdict, and each finding")


def _access(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(action="list", json=False)
    actions = parser.add_subparsers(dest="action", metavar="list | add | remove")
    listing = actions.add_parser("list", help="show the tokens and what each may see (also without a word)")
    adding = actions.add_parser("add", help="make a token for `serve --http` and show it once")
    adding.add_argument("name", metavar="NAME", help="whose it is")
    adding.add_argument("--folder", metavar="F", action="append", help="what it may see; may be given more than once")
    adding.add_argument("--group", metavar="TEAM", action="append", help="what this group of access.toml may see")
    adding.add_argument("--expires", metavar="DATE", help="the last day on which it works: 2026-12-31, or a time")
    removing = actions.add_parser("remove", help="end a token at once, in a running server too")
    removing.add_argument("name", metavar="NAME")
    for each in (listing, adding, removing):
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="WHEN", help="only what is younger: 30m, 12h, 7d, or a date")
    parser.add_argument("--client", metavar="NAME", help="only answers to this program")
    parser.add_argument("--user", metavar="NAME", help="only answers to this user of `serve --http`")
    parser.add_argument("--json", action="store_true", help="one JSON document a line")


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--questions",
        metavar="FILE",
        help='your questions, one a line: {"question": "...", "path": "...", "lines": "12-40"} (lines optional); '
        "without it headings are drawn from the files",
    )
    parser.add_argument("--folder", metavar="F", action="append", help="only this folder; may be given more than once")
    parser.add_argument("-n", "--count", metavar="N", type=int, default=50, help="questions to draw at most (50)")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="kill it if it does not answer; the index survives that")


class Command(NamedTuple):
    """One command.

    Attributes:
        about: What it does, for the help.
        add_arguments: Adds its arguments to its parser.
        function: What runs it, ``module:function`` in this package; imported when the command has been chosen.
    """

    about: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    function: str


COMMANDS = {
    "serve": Command(
        "serve MCP on stdin and stdout: what clients start (also without any command)", _serve, "serve:run_serve"
    ),
    "install": Command(
        "add this server to an MCP client's configuration, and try it as the client would",
        _install,
        "install:run_install",
    ),
    "uninstall": Command("take it out of an MCP client's configuration again", _uninstall, "install:run_uninstall"),
    "folders": Command("list, add or remove the folders that are indexed", _folders, "index:run_folders"),
    "index": Command("index now and wait, with a progress bar", _index, "index:run_index"),
    "search": Command("search the indexed folders", _search, "search:run_search"),
    "read": Command("read an indexed file around a place", _read, "search:run_read"),
    "status": Command(
        "what is indexed, what the model slot is doing, what failed and why", _status, "index:run_status"
    ),
    "ui": Command(
        "a page in the browser that shows it live, searches, and lists what failed", _ui, "serve_web:run_ui"
    ),
    "models": Command("list the embedding models, or fetch one", _models, "models:run_models"),
    "access": Command("access tokens for `serve --http`, each for some folders", _access, "access:run_access"),
    "log": Command("which files were shown, when and to whom", _log, "log:run_log"),
    "doctor": Command("look for everything that could be wrong, with a remedy for each", _doctor, "doctor:run_doctor"),
    "bench": Command(
        "measure search on your own folders and questions, against plain grep", _bench, "bench:run_bench"
    ),
    "stop": Command("end the background process that all clients share", _stop, "serve:run_stop"),
}
