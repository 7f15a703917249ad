"""Model names to models: what a folder's configured name means on this machine. Files only, no torch, no network."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
from anyio import to_thread

from indexer.broadcast import Notifier
from indexer.config import Config, ModelSettings
from indexer.errors import SlotUnavailable
from indexer.folders.state import FolderModel, Folders, LiveFolder
from indexer.models.catalogue import languages_of, lookup
from indexer.models.locate import Located, availability, find
from indexer.models.prepared import EXPORT_RECORD, export_due, find_prepared, prepare_command, read_verdict
from indexer.models.spec import RerankModel, resolve, resolve_reranker
from indexer.models.tokenizer import Tokens, open_tokenizer
from indexer.slot.embedder import ModelSpec
from indexer.slot.failure import HINTS
from indexer.status_types import ModelAvailability

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
        return find_prepared(config.data_dir, spec.key, EXPORT_RECORD) is not None

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
        if export_due(spec, self._config.data_dir):
            return "Prepared, it would start faster and use less memory.", f"Run: {prepare_command(name)}"
        refused = read_verdict(self._config.data_dir, spec.key, EXPORT_RECORD)
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


# Availability -------------------------------------------------------------------------------------------------------
# Which models are on this machine, and the folders that wait for one that is not, or not as it could be.
#
# Models are pulled and prepared in other processes. While a model is known to be missing, or could be prepared,
# each search and each look at the status has it looked for again (both commands end with a status), and so does an
# ``index`` run; the clock of the rescans looks in any case. Looking costs some ``stat`` calls in a thread and
# delays nobody.


class AvailableModels:
    """The models that the configuration and the folders name.

    Attributes:
        models: What was found of each when last looked; empty before the first look.
        incomplete: Whether one of them was missing or could be prepared then, or the look is still to come: another
            may find more.
    """

    def __init__(self, config: Config, models: Models, folders: Folders, arrived: Callable[[str], None]) -> None:
        """Keep what is needed.

        Args:
            config: Names the default model.
            models: Finds them.
            folders: The folders being kept.
            arrived: Called on the event loop with the root of a folder whose model has come.
        """
        self.models: tuple[ModelAvailability, ...] = ()
        self.incomplete = True
        self._config = config
        self._resolver = models
        self._folders = folders
        self._arrived = arrived
        self._asked = Notifier()

    async def run(self, changed: Callable[[], None]) -> None:
        """Look now, whenever ``check_again`` asks for it, and at each rescan; until cancelled.

        Args:
            changed: Called when ``models`` says something new.
        """
        pause = self._config.index.rescan_minutes * 60 or math.inf
        while True:
            asked = self._asked.notifications
            await self.assign_models()
            found = await to_thread.run_sync(self._resolver.available, self._names())
            waiting = any(map(_may_change, self._folders))
            self.incomplete = waiting or not all(model.local for model in found)
            if found != self.models:
                self.models = found
                changed()
            with anyio.move_on_after(pause):
                await self._asked.after(asked)

    def check_again(self) -> None:
        """Have the models looked for again: one is missing, new, or has another form; returns at once."""
        self.incomplete = True
        self._asked.notify()

    async def assign_models(self) -> None:
        """Give folders that wait for a model that model, if it is here by now; and others the prepared form of theirs.

        A prepared form has the same vectors: nothing of the folder is read or embedded again.
        """
        for folder in self._folders:
            if not _may_change(folder):
                continue
            waited = folder.model.problem is not None
            folder.model = await to_thread.run_sync(self._resolver.for_folder, folder.known.model)
            if waited and folder.model.problem is None:
                self._arrived(folder.path)

    def _names(self) -> list[str]:
        """The default model, those of the folders (of the configuration file before they are kept), the reranker."""
        written = [folder.model for folder in self._config.folders] if not len(self._folders) else []
        kept = [folder.known.model for folder in self._folders]
        reranker = [self._config.search.rerank] if self._config.search.rerank else []
        return list(dict.fromkeys(self._resolver.name(name) for name in (None, *written, *kept, *reranker)))


def _may_change(folder: LiveFolder) -> bool:
    return folder.model.problem is not None or folder.model.could_be_prepared
