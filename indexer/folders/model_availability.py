"""Which models are on this machine, and which one each folder gets. Reads files only: no torch, no network."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
from anyio import to_thread

from indexer.broadcast import Notifier
from indexer.config import Config, ModelSettings
from indexer.documents.secret_policy import SecretPolicy
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


class ModelResolver:
    """Resolves model names, each once. Call it in worker threads: hashing weights and reading tokenizers take time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._secrets = SecretPolicy(config.secrets.allow, config.secrets.allow_files)
        self._lock = threading.Lock()
        self._resolved: dict[str, FolderModel] = {}
        self._rerankers: dict[str, RerankModel] = {}
        self._tokens: Tokens | None = None

    def for_folder(self, name: str | None) -> FolderModel:
        """The model of a folder that names ``name`` (None: the default one).

        A model that is not available is no error here: its folder is indexed with the embedded model's tokenizer and
        keyword search finds it, and ``problem`` says why. It is resolved again at the next call, and so is one that
        only torch could load and that has been prepared since.
        """
        name = self.name_or_default(name)
        with self._lock:
            found = self._resolved.get(name)
            if found is None or found.problem is not None or self._was_prepared(found):
                self._resolved.pop(name, None)  # or ``_spec`` would answer with it
                found = self._resolved[name] = self._resolve(name)
            return found

    def reranker(self, name: str) -> RerankModel:
        """The reranker that the configuration names; one that is not available is resolved again at the next call."""
        with self._lock:
            found = self._rerankers.get(name)
            if found is None or found.problem is not None:
                found = self._rerankers[name] = self._resolve_reranker(name)
            return found

    def name_or_default(self, name: str | None) -> str:
        """The name of a folder's model: the one it names, or the default."""
        return name or self._config.model.default

    def is_reranker(self, name: str) -> bool:
        """Whether a model is a reranker: that of ``search.rerank``, or one of the catalogue."""
        entry = lookup(name)
        return entry.kind == "reranker" if entry else name == self._config.search.rerank

    def available(self, names: Iterable[str]) -> tuple[ModelAvailability, ...]:
        """Each model as found on this machine, in order, each once; a damaged model is reported, never raised."""
        return tuple(self._available(name) for name in dict.fromkeys(names))

    def _resolve(self, name: str) -> FolderModel:
        try:
            if self.is_reranker(name):
                raise SlotUnavailable("incompatible", f"{name} is a reranker, it makes no vectors.", _NO_EMBEDDER)
            spec = self._spec(name)
            tokens = open_tokenizer(spec)
        except SlotUnavailable as problem:
            return FolderModel(name, None, problem, self._embedded_tokens(), None, self._secrets)
        return FolderModel(name, spec, None, tokens, self._languages(name), self._secrets)

    def _resolve_reranker(self, name: str) -> RerankModel:
        try:
            return RerankModel(name, self._spec(name), None, self._languages(name))
        except SlotUnavailable as problem:
            return RerankModel(name, None, problem, None)

    def _was_prepared(self, found: FolderModel) -> bool:
        """Whether a model that torch loads has got an ONNX form since it was resolved."""
        spec, config = found.spec, self._config
        if spec is None or not found.could_be_prepared or config.model.runtime != "auto":
            return False
        return find_prepared(config.data_dir, spec.key, EXPORT_RECORD) is not None

    def _languages(self, name: str) -> frozenset[str] | None:
        # Not the spec's directory: an ONNX form is kept apart from the model's card.
        located = find(name, hub_cache=self._config.hub_cache, data_dir=self._config.data_dir)
        return languages_of(name, Path(located.directory) if isinstance(located, Located) else None)

    def _available(self, name: str) -> ModelAvailability:
        entry = lookup(name)
        download = entry.disk_bytes or None if entry else None
        try:
            with self._lock:
                spec = self._spec(name)
        except SlotUnavailable as problem:
            return ModelAvailability(name, False, download, "", str(problem), problem.hint)
        reason, remedy = self._preparation_advice(name, spec)
        return ModelAvailability(name, True, size_of(Path(spec.directory)), spec.runtime, reason, remedy)

    def _preparation_advice(self, name: str, spec: ModelSpec) -> tuple[str, str]:
        """What a model that torch loads would gain by being prepared and how, or why it cannot be."""
        if (spec.runtime, spec.kind) != ("torch", "embedder") or self._config.model.runtime != "auto":
            return "", ""
        if export_due(spec, self._config.data_dir):
            return "Prepared, it would start faster and use less memory.", f"Run: {prepare_command(name)}"
        refused = read_verdict(self._config.data_dir, spec.key, EXPORT_RECORD)
        return (f"Only torch loads it: its ONNX form was refused, {refused.reason}.", "") if refused else ("", "")

    def _spec(self, name: str) -> ModelSpec:
        """Find a model's files and fix how it is run; as a reranker if it is one.

        Raises:
            SlotUnavailable: It is not available; says why.
        """
        known = self._resolved.get(name)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # a model's files of unexpected content
            reason = f"The files of {name} are damaged: {error}"
            raise SlotUnavailable("corrupt_files", reason, HINTS["corrupt_files"]) from error

    def _embedded_tokens(self) -> Tokens:
        if self._tokens is None:  # read once: a missing model is resolved often
            self._tokens = open_tokenizer(resolve(ModelSettings().default, data_dir=self._config.data_dir))
        return self._tokens


def size_of(directory: Path) -> int | None:
    """Bytes of the files below a model's directory, links followed; None when it cannot be read."""
    try:
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    except OSError:
        return None


# Availability -------------------------------------------------------------------------------------------------------
# Models are pulled and prepared in other processes. While a model is missing, or could be prepared, every search,
# every status and every ``index`` run asks for another check (``models pull`` and ``models prepare`` end with a
# status), and each rescan checks in any case. A check costs some ``stat`` calls in a thread and delays nobody.


class ModelTracker:
    """Keeps track of the models that configuration and folders name, and assigns them to folders once they are here.

    Attributes:
        models: Each as found by the last check; empty before the first.
        incomplete: Whether another check may find more: one of them was missing or could be prepared, or a check has
            been asked for.
    """

    def __init__(
        self, config: Config, models: ModelResolver, folders: Folders, on_assigned: Callable[[str], None]
    ) -> None:
        """Nothing is checked before ``run``.

        Args:
            config: Names the default model.
            models: Finds them.
            folders: The folders that are indexed.
            on_assigned: Called on the event loop with the root of a folder whose model was missing and is here now.
        """
        self.models: tuple[ModelAvailability, ...] = ()
        self.incomplete = True
        self._config = config
        self._resolver = models
        self._folders = folders
        self._on_assigned = on_assigned
        self._requests = Notifier()

    async def run(self, changed: Callable[[], None]) -> None:
        """Check now, whenever ``check_again`` asks for it, and at each rescan; until cancelled.

        Args:
            changed: Called when ``models`` has changed.
        """
        pause = self._config.index.rescan_minutes * 60 or math.inf
        while True:
            seen = self._requests.notifications
            await self.assign_models()
            found = await to_thread.run_sync(self._resolver.available, self._names())
            waiting = any(map(_may_change, self._folders))
            self.incomplete = waiting or not all(model.local for model in found)
            if found != self.models:
                self.models = found
                changed()
            with anyio.move_on_after(pause):
                await self._requests.after(seen)

    def check_again(self) -> None:
        """Ask for another check: a model is missing, newly named, or may have another form. Never waits."""
        self.incomplete = True
        self._requests.notify()

    async def assign_models(self) -> None:
        """Assign models that have come to the folders that wait for them, and prepared forms to the others.

        A prepared form has the same vectors: nothing of the folder is read or embedded again.
        """
        for folder in self._folders:
            if not _may_change(folder):
                continue
            was_missing = folder.model.problem is not None
            folder.model = await to_thread.run_sync(self._resolver.for_folder, folder.known.model)
            if was_missing and folder.model.problem is None:
                self._on_assigned(folder.path)

    def _names(self) -> list[str]:
        """The default model, those of the folders (of the configuration file until they are loaded), the reranker."""
        configured = [folder.model for folder in self._config.folders] if not len(self._folders) else []
        loaded = [folder.known.model for folder in self._folders]
        reranker = [self._config.search.rerank] if self._config.search.rerank else []
        return list(
            dict.fromkeys(self._resolver.name_or_default(name) for name in (None, *configured, *loaded, *reranker))
        )


def _may_change(folder: LiveFolder) -> bool:
    return folder.model.problem is not None or folder.model.could_be_prepared
