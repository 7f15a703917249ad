"""The catalogue beside what is configured: one list of every model that can be named, and who uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from indexer.config import Config
from indexer.folders.model_availability import ModelResolver
from indexer.folders.registry import KnownFolder
from indexer.models.catalogue import Entry, entries, lookup
from indexer.status_types import ModelAvailability
from mcp_server.cli.json_results import ModelEntry, ModelsResult
from mcp_server.protocol.render import size


def listed(config: Config, folders: Sequence[KnownFolder]) -> ModelsResult:
    """Look for every model of the catalogue, and for those that only the configuration or a folder names."""
    models = ModelResolver(config)
    catalogue = {entry.name: entry for entry in entries()}
    users: dict[str, list[str]] = {}
    for folder in folders:
        users.setdefault(_short(models.name_or_default(folder.model)), []).append(folder.path)
    default = _short(models.name_or_default(None))
    reranker = _short(config.search.rerank) if config.search.rerank else ""
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


def _short(name: str) -> str:
    """The catalogue's name of a model, whichever of its names was used."""
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


def shown(result: ModelsResult) -> str:
    """Return the list for people, two or three lines a model."""
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
