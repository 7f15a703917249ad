"""``folder-mcp models [list | pull NAME | prepare NAME]``: which models there are, fetching and preparing one."""

from __future__ import annotations

import argparse
import os
import threading
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call

if TYPE_CHECKING:
    from indexer.errors import SlotUnavailable
    from indexer.models.download import BytesDone, Hub
    from indexer.models.locate import Located
    from indexer.models.prepare import Request
    from indexer.models.spec import RuntimeChoice

USAGE = 2
"""Exit code for a name that is no model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
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


def run(call: Call) -> int:
    """List, fetch or prepare."""
    if call.args.action == "pull":
        return pull(call)
    return prepare(call) if call.args.action == "prepare" else _list(call)


def _list(call: Call) -> int:
    from indexer.folders.registry import list_folders  # noqa: PLC0415
    from mcp_server.cli.model_list import listed, shown  # noqa: PLC0415

    result = listed(call.config, list_folders(call.config).known)
    if call.args.json:
        console.document(result)
    else:
        console.say(shown(result))
    return 0


def pull(call: Call, hub: Hub | None = None) -> int:
    """Fetch the model that the arguments name, and prepare it unless they forbid it.

    Args:
        call: The command line.
        hub: Where from; the Hugging Face hub when None.

    Returns:
        0 when it is here, 1 when it could not be fetched or prepared, 2 when there is no such name.
    """
    from indexer.errors import SlotUnavailable  # noqa: PLC0415
    from mcp_server.cli.progress import progress  # noqa: PLC0415

    name = call.args.name
    try:
        with progress(name) as advance:
            located = _fetched(call, advance, hub)
    except SlotUnavailable as problem:
        return _refused(name, problem)
    console.say(f"{name} is on this machine: {located.directory}")
    if call.args.no_prepare:
        _tell_owner(call)
        return 0
    return prepare(call, pulled=True)


def prepare(call: Call, *, pulled: bool = False) -> int:
    """Make of the model that the arguments name what it needs to load, or to load sooner.

    Args:
        call: The command line.
        pulled: It has just been fetched: that there is nothing to do goes without saying.

    Returns:
        0 when all is made or nothing was to be, 1 when it could not be made, 2 when there is no such name.
    """
    from indexer.errors import SlotUnavailable  # noqa: PLC0415
    from indexer.models.prepare import delete_damaged, due_preparations, spec_of  # noqa: PLC0415
    from mcp_server.cli.prepare_process import run as prepared  # noqa: PLC0415

    name, request = call.args.name, _request(call)
    try:
        needed = bool(due_preparations(request)) or (not pulled and delete_damaged(request))
    except SlotUnavailable as problem:
        code = _refused(name, problem)
        return 0 if pulled else code  # it has been fetched, which was asked for
    if not needed:
        if not pulled:
            console.say(_nothing(name, request))
        _tell_owner(call)
        return 0
    try:
        outcomes = prepared(request, call.environ, lambda stage: console.note(f"{name}: {stage}"))
    except SlotUnavailable as problem:
        return _refused(name, problem)
    _tell_owner(call)
    for outcome in outcomes:
        result = f"refused: {outcome.reason}" if outcome.reason else "made and verified"
        console.say(f"{name}: {outcome.name} {result}")
    try:
        console.say(f"{name} is loaded by {spec_of(request).runtime}")
    except SlotUnavailable as problem:  # what could not be made is needed
        return _refused(name, problem)
    return 0


def _request(call: Call) -> Request:
    from pathlib import Path  # noqa: PLC0415

    from indexer.models.locate import is_directory_name  # noqa: PLC0415
    from indexer.models.prepare import Request  # noqa: PLC0415

    config, name = call.config, call.args.name
    if is_directory_name(name):  # the process that prepares it has another working directory
        name = str(Path(name).expanduser().absolute())
    asked: RuntimeChoice = getattr(call.args, "runtime", "auto")
    return Request(
        name,
        str(config.data_dir),
        str(config.hub_cache),
        config.model.device,
        config.model.runtime if asked == "auto" else asked,
        allow_remote_code=call.args.name in config.model.allow_remote_code,
    )


def _nothing(name: str, request: Request) -> str:
    """Say why there is nothing to prepare."""
    from indexer.models.prepare import spec_of  # noqa: PLC0415
    from indexer.models.prepared import EXPORT_RECORD, read_verdict  # noqa: PLC0415

    spec = spec_of(request)
    refused = read_verdict(request.directory, spec.key, EXPORT_RECORD) if spec.runtime == "torch" else None
    why = f": its ONNX form was refused, {refused.reason}" if refused and refused.reason else ""
    return f"nothing to prepare: {spec.runtime} loads {name} on {spec.device}{why}"


def _tell_owner(call: Call) -> None:
    owner = call.running()
    if owner is not None:
        owner.status()  # asking is enough: it looks for the models that its folders miss


def _fetched(call: Call, advance: BytesDone, hub: Hub | None) -> Located:
    """Fetch on a thread of its own: Ctrl-C must end a download that has hours to go.

    The hub's client raises what its own client of HTTP raises: everything is caught and named, as at the slot.

    Raises:
        SlotUnavailable: It could not be fetched; says why.
    """
    from indexer.errors import SlotUnavailable  # noqa: PLC0415
    from indexer.models.download import pull as fetch  # noqa: PLC0415
    from indexer.slot.failure import classify  # noqa: PLC0415

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
    from indexer.models.catalogue import lookup, nearest  # noqa: PLC0415
    from indexer.models.locate import is_directory_name  # noqa: PLC0415

    entry = lookup(name)
    advice = problem.hint
    if problem.code == "auth_required" and entry is not None:
        advice = f"Accept the licence at https://huggingface.co/{entry.repo} and run `hf auth login`, then pull again."
    near = nearest(name) if problem.code == "model_not_found" and entry is None else ""
    if near and near not in advice:
        advice = f"Did you mean {near}? {advice}"
    console.complain(f"{problem} {advice}".strip())
    owned = "/" in name and not is_directory_name(name)  # owner/name: the hub may have it one day
    return USAGE if problem.code == "model_not_found" and not owned else 1
