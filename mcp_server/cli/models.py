"""``models [list | pull NAME | prepare NAME]``: which models there are, fetching one and preparing one.

A model is prepared by a process of its own (``indexer.models.prepare``). This process holds the other end of its
stdin: when this process ends, however it ends, the other one does.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import Field

from indexer.config import Config
from indexer.errors import SlotUnavailable
from indexer.folders.model_availability import ModelResolver
from indexer.folders.registry import KnownFolder, list_folders
from indexer.models.catalogue import Entry, entries, lookup, nearest
from indexer.models.locate import Located, is_directory_name
from indexer.models.prepare import Outcome, Request, delete_damaged, due_preparations, preparation_lock, spec_of
from indexer.models.prepared import EXPORT_RECORD, delete_parts, read_verdict
from indexer.models.spec import RuntimeChoice
from indexer.slot.failure import HINTS, classify
from indexer.status_types import ModelAvailability
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.processes.spawn import user_environment
from mcp_server.protocol import results
from mcp_server.protocol.render import size
from mcp_server.protocol.results import Line, Record

if TYPE_CHECKING:
    from indexer.models.download import BytesDone, Hub

log = logging.getLogger(__name__)

USAGE = 2
"""Exit code for a name that is no model."""
_NEW_GROUP = 0x00000200  # Windows: CREATE_NEW_PROCESS_GROUP
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"}


class ModelEntry(Record):
    """One model that can be named."""

    name: str
    kind: Literal["embedder", "reranker"] = Field(
        description="embedder: for a folder; reranker: for search.rerank, off unless named there."
    )
    repo: str = Field(description="Where a pull fetches it from; empty for a local directory.")
    languages: str = Field(description="What it was trained for; empty when unknown.")
    size: int | None = Field(description="Bytes of its files here, or of what a pull would fetch.")
    context: int | None = Field(description="What it sees of a passage, tokens.")
    dimension: int | None = Field(description="Numbers in a vector; null for a reranker.")
    licence: str
    query_prompt: str = Field(description="Put before a query, where the model's own files name none.")
    passage_prompt: str = Field(description="Put before a passage, likewise.")
    gated: bool = Field(description="The hub asks for an accepted licence and a token.")
    local: bool = Field(description="Whether it can be loaded from this machine.")
    runtime: str = Field(description="What would load it: onnx or torch; empty when it is not here.")
    reason: Line = Field(description="Why it cannot be loaded; empty when it can.")
    remedy: Line
    default: bool = Field(description="Whether folders that name no model use it; of a reranker: whether searches do.")
    folders: list[results.Path] = Field(description="The folders that use it.")
    note: str


class ModelsResult(Record):
    """The document of ``folder-mcp models list --json``: the catalogue, and models that only a setting names."""

    models: list[ModelEntry]
    offline: bool = Field(description="Whether nothing is ever fetched.")
    hub_cache: results.Path = Field(description="Where pulled models lie.")


def run_models(call: Call) -> int:
    """List, fetch or prepare."""
    if call.args.action == "pull":
        return pull(call)
    if call.args.action == "prepare":
        return prepare(call)
    result = list_models(call.config, list_folders(call.config).known)
    if call.args.json:
        console.json_document(result)
    else:
        console.say(_list_text(result))
    return 0


# The list -----------------------------------------------------------------------------------------------------------


def list_models(config: Config, folders: Sequence[KnownFolder]) -> ModelsResult:
    """Return every model of the catalogue, and those that only the configuration or a folder names."""
    models = ModelResolver(config)
    catalogue = {entry.name: entry for entry in entries()}
    users: dict[str, list[str]] = {}
    for folder in folders:
        users.setdefault(_catalogue_name(models.name_or_default(folder.model)), []).append(folder.path)
    default = _catalogue_name(models.name_or_default(None))
    reranker = _catalogue_name(config.search.rerank) if config.search.rerank else ""
    named = [name for name in (default, *users, reranker) if name and name not in catalogue]
    found = models.available((*catalogue, *named))
    return ModelsResult(
        models=[
            _entry(
                each,
                catalogue.get(each.name),
                users.get(each.name, []),
                default=each.name in (default, reranker),
                reranker=models.is_reranker(each.name),
            )
            for each in found
        ],
        offline=config.model.offline,
        hub_cache=str(config.hub_cache),
    )


def _catalogue_name(name: str) -> str:
    """Return the name of a model in the catalogue, whichever of its names was used."""
    entry = lookup(name)
    return entry.name if entry else name


def _entry(
    found: ModelAvailability, entry: Entry | None, folders: list[str], *, default: bool, reranker: bool
) -> ModelEntry:
    return ModelEntry(
        **asdict(found),
        kind="reranker" if reranker else "embedder",
        repo=entry.repo if entry else found.name if not found.name.startswith(("/", "~", ".")) else "",
        languages=entry.languages if entry else "",
        context=entry.context if entry else None,
        dimension=(entry.dim or None) if entry else None,
        licence=entry.licence if entry else "",
        query_prompt=entry.query_prompt if entry else "",
        passage_prompt=entry.passage_prompt if entry else "",
        gated=entry.gated if entry else False,
        default=default,
        folders=folders,
        note=entry.note if entry else "",
    )


def _list_text(result: ModelsResult) -> str:
    """Return the list as text, two or three lines a model."""
    lines: list[str] = []
    for model in result.models:
        unprepared = not model.local and "models prepare" in model.remedy
        here = f"here, {model.runtime}" if model.local else "here, not loadable yet" if unprepared else "not here"
        amount = size(model.size) if model.size else "size unknown"
        chosen = "" if not model.default else "  default" if model.kind == "embedder" else "  search.rerank"
        lines.append(f"{model.name}  ({here}, {amount}){chosen}")
        facts = ["reranker for search.rerank"] if model.kind == "reranker" else []
        facts += [f"languages: {model.languages}"] if model.languages else []
        facts += [f"{model.dimension} dimensions"] if model.dimension else []
        facts += [f"{model.context} tokens"] if model.context else []
        facts += [model.licence] if model.licence else []
        facts += ["gated: needs an accepted licence and a token"] if model.gated else []
        lines += [f"    {', '.join(facts)}"] if facts else []
        prompts = {"query": model.query_prompt, "passage": model.passage_prompt}
        lines += [f"    {kind} prompt: {prompt!r}" for kind, prompt in prompts.items() if prompt]
        lines += [f"    {model.note}"] if model.note else []
        lines += [f"    used by {folder}" for folder in model.folders]
        if model.reason and (model.local or unprepared or model.folders or model.default):
            lines.append(f"    {model.reason} {model.remedy}")
    lines.append("")
    mode = "offline mode is on: nothing is fetched" if result.offline else "folder-mcp models pull NAME fetches one"
    lines.append(f"pulled models lie in {result.hub_cache}; {mode}")
    return "\n".join(lines)


# Fetching and preparing ---------------------------------------------------------------------------------------------


def pull(call: Call, hub: Hub | None = None) -> int:
    """Fetch the model that the arguments name, and prepare it unless they forbid it.

    Args:
        call: The command line.
        hub: Where from; the Hugging Face hub when None.

    Returns:
        0 when it is here, 1 when it could not be fetched or prepared, 2 when there is no such name.
    """
    from mcp_server.cli.progress import show_download  # noqa: PLC0415 - needs rich, which `models list` does not

    name = call.args.name
    try:
        with show_download(name) as advance:
            located = _fetch(call, advance, hub)
    except SlotUnavailable as problem:
        return _report(name, problem)
    console.say(f"{name} is on this machine: {located.directory}")
    if call.args.no_prepare:
        _tell_owner(call)
        return 0
    return prepare(call, pulled=True)


def prepare(call: Call, *, pulled: bool = False) -> int:
    """Make what the named model needs in order to load, or to load sooner.

    Args:
        call: The command line.
        pulled: It has just been fetched: nothing is printed when there is nothing to prepare.

    Returns:
        0 when everything is made or nothing is due, 1 when it could not be made, 2 when there is no such name.
    """
    name, request = call.args.name, _request_for(call)
    try:
        needed = bool(due_preparations(request)) or (not pulled and delete_damaged(request))
    except SlotUnavailable as problem:
        code = _report(name, problem)
        return 0 if pulled else code  # the model has been fetched, as asked
    if not needed:
        if not pulled:
            console.say(_nothing_to_prepare(name, request))
        _tell_owner(call)
        return 0
    try:
        outcomes = prepare_in_process(request, call.environ, lambda stage: console.note(f"{name}: {stage}"))
    except SlotUnavailable as problem:
        return _report(name, problem)
    _tell_owner(call)
    for outcome in outcomes:
        result = f"refused: {outcome.reason}" if outcome.reason else "made and verified"
        console.say(f"{name}: {outcome.name} {result}")
    try:
        console.say(f"{name} is loaded by {spec_of(request).runtime}")
    except SlotUnavailable as problem:  # what could not be made is needed
        return _report(name, problem)
    return 0


def _request_for(call: Call) -> Request:
    config, name = call.config, call.args.name
    if is_directory_name(name):  # the process that prepares it has another working directory
        name = str(Path(name).expanduser().absolute())
    chosen: RuntimeChoice = getattr(call.args, "runtime", "auto")
    return Request(
        name,
        str(config.data_dir),
        str(config.hub_cache),
        config.model.device,
        config.model.runtime if chosen == "auto" else chosen,
        allow_remote_code=call.args.name in config.model.allow_remote_code,
    )


def _nothing_to_prepare(name: str, request: Request) -> str:
    """Say why there is nothing to prepare."""
    spec = spec_of(request)
    refused = read_verdict(request.directory, spec.key, EXPORT_RECORD) if spec.runtime == "torch" else None
    why = f": its ONNX form was refused, {refused.reason}" if refused and refused.reason else ""
    return f"nothing to prepare: {spec.runtime} loads {name} on {spec.device}{why}"


def _tell_owner(call: Call) -> None:
    owner = call.running()
    if owner is not None:
        owner.status()  # the request makes the owner look again for the models that its folders lack


def _fetch(call: Call, advance: BytesDone, hub: Hub | None) -> Located:
    """Fetch on a thread of its own, so that Ctrl-C ends a long download at once.

    The hub's client raises whatever its HTTP client raises: every error is caught and classified, as in the slot.

    Raises:
        SlotUnavailable: It could not be fetched; the message says why.
    """
    from indexer.models.download import pull as fetch  # noqa: PLC0415 - the hub's client is for fetching only

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


def _report(name: str, problem: SlotUnavailable) -> int:
    """Report why a model cannot be had, with advice; return the exit code."""
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


# The process that prepares ------------------------------------------------------------------------------------------


def prepare_in_process(request: Request, environ: Mapping[str, str], report: Callable[[str], None]) -> list[Outcome]:
    """Prepare a model in a process of its own and wait for it; Ctrl-C ends it and leaves nothing unfinished.

    Args:
        request: What to prepare.
        environ: Our environment; the process gets the user's part of it.
        report: Called with each stage of the work, in words.

    Returns:
        What became of each preparation that was due.

    Raises:
        SlotUnavailable: It could not be prepared; says why and what to do.
    """
    process = _start_process(environ)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    logging_thread = threading.Thread(target=_log, args=(process.stderr,), daemon=True)
    logging_thread.start()
    try:
        return _listen(process, request, report)
    finally:
        process.kill()
        process.wait()
        logging_thread.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):  # it ended before it read the request
                pipe.close()
        _delete_parts(request)


def _start_process(environ: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "indexer.models.prepare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=user_environment(environ) | _OFFLINE,
            cwd=os.path.abspath(os.sep),
            encoding="utf-8",
            errors="replace",
            start_new_session=sys.platform != "win32",  # Ctrl-C reaches this process only
            creationflags=_NEW_GROUP if sys.platform == "win32" else 0,
        )
    except OSError as error:
        reason = f"The process that prepares models cannot be started: {error.strerror or error}."
        raise SlotUnavailable("internal", reason, HINTS["internal"]) from error


def _listen(process: subprocess.Popen[str], request: Request, report: Callable[[str], None]) -> list[Outcome]:
    """Send the request; read stages and outcomes until the process ends."""
    assert process.stdin is not None and process.stdout is not None
    outcomes: list[Outcome] = []
    try:
        process.stdin.write(json.dumps(asdict(request)) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has already ended: its exit code is looked at below
    for line in process.stdout:
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise SlotUnavailable(answer["failed"], answer["message"], answer["hint"])
        if "made" in answer:
            outcomes.append(Outcome(answer["made"], answer["reason"]))
        else:
            report(answer["stage"])
    code = process.wait()
    if code != 0:
        raise _ended(code, request.name)
    return outcomes


def _ended(code: int, name: str) -> SlotUnavailable:
    """The error for a process that ended without saying why."""
    if code == -9:  # SIGKILL, a name that Windows does not have
        reason = f"The process that prepares {name} was killed, perhaps because memory ran out."
        return SlotUnavailable("out_of_memory_host", reason, HINTS["out_of_memory_host"])
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return SlotUnavailable("internal", f"The process that prepares {name} ended {how}.", HINTS["internal"])


def _log(stderr: IO[str]) -> None:
    for line in stderr:
        if line.strip():
            log.info("preparing: %s", line.rstrip())


def _delete_parts(request: Request) -> None:
    """Delete the unfinished files of a killed process, unless another process is preparing there now."""
    try:
        with preparation_lock(request.directory):
            delete_parts(request.directory)
    except (SlotUnavailable, OSError) as error:
        log.info("nothing deleted in %s: %s", request.data_dir, error)
