"""``folder-mcp models [list | pull NAME]``: which models there are, which are here, and fetching one."""

from __future__ import annotations

import argparse
import os
import threading
from typing import TYPE_CHECKING

from mcp_server import console
from mcp_server.call import Call

if TYPE_CHECKING:
    from indexer.errors import SlotUnavailable
    from indexer.model.local import Located
    from indexer.model.pull import BytesDone, Hub

USAGE = 2
"""Exit code for a name that is no model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.set_defaults(action="list", json=False)
    actions = parser.add_subparsers(dest="action", metavar="list | pull")
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
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)


def run(call: Call) -> int:
    """List or fetch."""
    return pull(call) if call.args.action == "pull" else _list(call)


def _list(call: Call) -> int:
    from indexer.known_folders import list_folders  # noqa: PLC0415
    from mcp_server.model_list import listed, shown  # noqa: PLC0415

    result = listed(call.config, list_folders(call.config).known)
    if call.args.json:
        console.document(result)
    else:
        console.say(shown(result))
    return 0


def pull(call: Call, hub: Hub | None = None) -> int:
    """Fetch the model that the arguments name.

    Args:
        call: The command line.
        hub: Where from; the Hugging Face hub when None.

    Returns:
        0 when it is here, 1 when it could not be fetched, 2 when there is no such name.
    """
    from indexer.errors import SlotUnavailable  # noqa: PLC0415
    from mcp_server.fetching import progress  # noqa: PLC0415

    name = call.args.name
    try:
        with progress(name) as advance:
            located = _fetched(call, advance, hub)
    except SlotUnavailable as problem:
        return _refused(name, problem)
    console.say(f"{name} is on this machine: {located.directory}")
    owner = call.running()
    if owner is not None:
        owner.status()  # asking is enough: it looks for the models that its folders miss
    return 0


def _fetched(call: Call, advance: BytesDone, hub: Hub | None) -> Located:
    """Fetch on a thread of its own: Ctrl-C must end a download that has hours to go.

    The hub's client raises what its own client of HTTP raises: everything is caught and named, as at the slot.

    Raises:
        SlotUnavailable: It could not be fetched; says why.
    """
    from indexer.errors import SlotUnavailable  # noqa: PLC0415
    from indexer.model.failure import classify  # noqa: PLC0415
    from indexer.model.pull import pull as fetch  # noqa: PLC0415

    config, args = call.config, call.args
    found: list[Located] = []
    problems: list[SlotUnavailable] = []

    def work() -> None:
        try:
            found.append(
                fetch(
                    args.name,
                    hub_cache=config.hub_cache,
                    progress=advance,
                    offline=config.model.offline,
                    runtime=args.runtime,
                    hub=hub,
                )
            )
        except Exception as error:
            problems.append(error if isinstance(error, SlotUnavailable) else classify(error).unavailable())

    thread = threading.Thread(target=work, name="pull", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        console.complain(f"interrupted; what was fetched of {args.name} is kept, the same command goes on from there")
        os._exit(130)  # an orderly exit would wait for the client's threads, that is for the whole download
    if problems:
        raise problems[0]
    return found[0]


def _refused(name: str, problem: SlotUnavailable) -> int:
    from indexer.model.catalogue import lookup, nearest  # noqa: PLC0415

    entry = lookup(name)
    advice = problem.hint
    if problem.code == "auth_required" and entry is not None:
        advice = f"Accept the licence at https://huggingface.co/{entry.repo} and run `hf auth login`, then pull again."
    near = nearest(name) if problem.code == "model_not_found" and entry is None else ""
    if near and near not in advice:
        advice = f"Did you mean {near}? {advice}"
    console.complain(f"{problem} {advice}".strip())
    unknown = problem.code == "model_not_found" and "/" not in name.strip("/")
    return USAGE if unknown or name.startswith(("/", ".", "~")) else 1
