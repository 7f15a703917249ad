"""Model names to models: what a folder's configured name means on this machine. Files only, no torch, no network."""

from __future__ import annotations

import threading

from indexer.config import Config
from indexer.errors import SlotUnavailable
from indexer.folder import FolderModel
from indexer.model.catalogue import lookup
from indexer.model.embedder import ModelSpec
from indexer.model.specs import resolve
from indexer.model.tokenizer import Tokens, open_tokenizer
from indexer.settings import ModelSettings


class Models:
    """Resolves model names, each once. For worker threads: hashing weights and reading tokenizers take time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._found: dict[str, FolderModel] = {}

    def for_folder(self, name: str | None) -> FolderModel:
        """The model of a folder that names ``name`` (None: the default one).

        A model that cannot be had is no error here: its folder is indexed with the embedded model's tokenizer and
        searched by word, and ``problem`` says why. It is looked for again at the next call.
        """
        name = name or self._config.model.default
        with self._lock:
            found = self._found.get(name)
            if found is None or found.problem is not None:
                found = self._found[name] = self._resolve(name)
            return found

    def _resolve(self, name: str) -> FolderModel:
        try:
            spec = self._spec(name)
        except SlotUnavailable as problem:
            return FolderModel(name, None, problem, self._embedded_tokens(), None)
        return FolderModel(name, spec, None, open_tokenizer(spec), languages(name))

    def _spec(self, name: str) -> ModelSpec:
        settings = self._config.model
        return resolve(
            name,
            data_dir=self._config.data_dir,
            device=settings.device,
            runtime=settings.runtime,
            allow_remote_code=name in settings.allow_remote_code,
            hub_cache=self._config.hub_cache,
            offline=settings.offline,
        )

    def _embedded_tokens(self) -> Tokens:
        return open_tokenizer(resolve(ModelSettings().default, data_dir=self._config.data_dir))


def languages(name: str) -> frozenset[str] | None:
    """Languages a model was made for, ISO 639-1; None when it reads many or the catalogue does not know it."""
    entry = lookup(name)
    return frozenset({"en"}) if entry is not None and entry.languages.casefold() == "english" else None
