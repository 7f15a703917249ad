"""Model names to models: what a folder's configured name means on this machine. Files only, no torch, no network."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from indexer.config import Config
from indexer.errors import SlotUnavailable
from indexer.folder import FolderModel
from indexer.model.availability import availability
from indexer.model.catalogue import lookup
from indexer.model.embedder import ModelSpec
from indexer.model.exports import due, exported, verdict
from indexer.model.failure import HINTS
from indexer.model.languages import languages_of
from indexer.model.local import Located, find
from indexer.model.prepared import prepare_command
from indexer.model.rerankers import RerankModel, resolve_reranker
from indexer.model.specs import resolve
from indexer.model.tokenizer import Tokens, open_tokenizer
from indexer.settings import ModelSettings
from indexer.status import ModelAvailability

_NO_EMBEDDER = "Choose an embedding model for the folder (folder-mcp models list); a reranker goes to search.rerank."


class Models:
    """Resolves model names, each once. For worker threads: hashing weights and reading tokenizers take time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._found: dict[str, FolderModel] = {}
        self._rerankers: dict[str, RerankModel] = {}
        self._tokens: Tokens | None = None

    def for_folder(self, name: str | None) -> FolderModel:
        """The model of a folder that names ``name`` (None: the default one).

        A model that cannot be had is no error here: its folder is indexed with the embedded model's tokenizer and
        searched by word, and ``problem`` says why. It is looked for again at the next call, and so is one that
        only torch could load and that has been prepared since.
        """
        name = self.name(name)
        with self._lock:
            found = self._found.get(name)
            if found is None or found.problem is not None or self._prepared(found):
                self._found.pop(name, None)
                found = self._found[name] = self._resolve(name)
            return found

    def reranker(self, name: str) -> RerankModel:
        """The reranker that the configuration names; one that cannot be had is looked for again at the next call."""
        with self._lock:
            found = self._rerankers.get(name)
            if found is None or found.problem is not None:
                found = self._rerankers[name] = self._resolve_reranker(name)
            return found

    def name(self, name: str | None) -> str:
        """The model that a folder means: the one it names, or the default."""
        return name or self._config.model.default

    def is_reranker(self, name: str) -> bool:
        """Whether a name means a reranker: that of ``search.rerank``, or one of the catalogue."""
        entry = lookup(name)
        return entry.kind == "reranker" if entry else name == self._config.search.rerank

    def available(self, names: Iterable[str]) -> tuple[ModelAvailability, ...]:
        """What each name means on this machine, in order, each once; a damaged model is reported, never raised."""
        return tuple(self._available(name) for name in dict.fromkeys(names))

    def _resolve(self, name: str) -> FolderModel:
        try:
            if self.is_reranker(name):
                raise SlotUnavailable("incompatible", f"{name} is a reranker, it makes no vectors.", _NO_EMBEDDER)
            spec = self._spec(name)
            tokens = open_tokenizer(spec)
        except SlotUnavailable as problem:
            return FolderModel(name, None, problem, self._embedded_tokens(), None)
        return FolderModel(name, spec, None, tokens, self._languages(name))

    def _resolve_reranker(self, name: str) -> RerankModel:
        try:
            return RerankModel(name, self._spec(name), None, self._languages(name))
        except SlotUnavailable as problem:
            return RerankModel(name, None, problem, None)

    def _prepared(self, found: FolderModel) -> bool:
        """Whether a model that torch loads has got an ONNX form since it was looked for."""
        spec, config = found.spec, self._config
        if spec is None or not found.could_be_prepared or config.model.runtime != "auto":
            return False
        return exported(config.data_dir, spec.key) is not None

    def _languages(self, name: str) -> frozenset[str] | None:
        # Not the spec's directory: an ONNX form lies apart from the model's card.
        located = find(name, hub_cache=self._config.hub_cache, data_dir=self._config.data_dir)
        return languages_of(name, Path(located.directory) if isinstance(located, Located) else None)

    def _available(self, name: str) -> ModelAvailability:
        entry = lookup(name)
        fetched = entry.disk_bytes or None if entry else None
        try:
            with self._lock:
                spec = self._spec(name)
        except SlotUnavailable as problem:
            return ModelAvailability(name, False, fetched, "", str(problem), problem.hint)
        reason, remedy = self._gain(name, spec)
        return ModelAvailability(name, True, size_of(Path(spec.directory)), spec.runtime, reason, remedy)

    def _gain(self, name: str, spec: ModelSpec) -> tuple[str, str]:
        """What a model that torch loads would gain by being prepared and how, or why it cannot be."""
        if (spec.runtime, spec.kind) != ("torch", "embedder") or self._config.model.runtime != "auto":
            return "", ""
        if due(spec, self._config.data_dir):
            return "Prepared, it would start faster and use less memory.", f"Run: {prepare_command(name)}"
        refused = verdict(self._config.data_dir, spec.key)
        return (f"Only torch loads it: its ONNX form was refused, {refused.reason}.", "") if refused else ("", "")

    def _spec(self, name: str) -> ModelSpec:
        """Pin a model: a reranker if the configuration or the catalogue says that it is one.

        Raises:
            SlotUnavailable: It cannot be had; says why.
        """
        known = self._found.get(name)
        if known is not None and known.spec is not None:
            return known.spec
        found = availability([name], hub_cache=self._config.hub_cache, data_dir=self._config.data_dir)[0]
        if found.code == "corrupt_files":
            raise SlotUnavailable(found.code, found.reason, found.remedy)
        settings = self._config.model
        try:
            if self.is_reranker(name):
                return resolve_reranker(
                    name,
                    data_dir=self._config.data_dir,
                    device=settings.device,
                    runtime=settings.runtime,
                    hub_cache=self._config.hub_cache,
                    offline=settings.offline,
                )
            return resolve(
                name,
                data_dir=self._config.data_dir,
                device=settings.device,
                runtime=settings.runtime,
                allow_remote_code=name in settings.allow_remote_code,
                hub_cache=self._config.hub_cache,
                offline=settings.offline,
            )
        except OSError as error:
            reason = f"The files of {name} cannot be read: {error.strerror or error}."
            raise SlotUnavailable("permission", reason, HINTS["permission"]) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # configuration files of odd content
            reason = f"The files of {name} are damaged: {error}"
            raise SlotUnavailable("corrupt_files", reason, HINTS["corrupt_files"]) from error

    def _embedded_tokens(self) -> Tokens:
        if self._tokens is None:  # read once: a missing model is looked for often
            self._tokens = open_tokenizer(resolve(ModelSettings().default, data_dir=self._config.data_dir))
        return self._tokens


def size_of(directory: Path) -> int | None:
    """Bytes of the files below a model's directory, links followed; None when it cannot be read."""
    try:
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    except OSError:
        return None
