"""Which models are on this machine, and the folders that wait for one that is not, or not as it could be.

Models are pulled and prepared in other processes. While a model is known to be missing, or could be prepared, each
search and each look at the status has it looked for again (both commands end with a status), and so does an ``index``
run; the clock of the rescans looks in any case. Looking costs some ``stat`` calls in a thread and delays nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
from anyio import to_thread

from indexer.config import Config
from indexer.folder import Folders, LiveFolder
from indexer.models import Models
from indexer.pulse import Pulse
from indexer.status import ModelAvailability


class Stock:
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
        self._asked = Pulse()

    async def run(self, changed: Callable[[], None]) -> None:
        """Look now, whenever ``look_again`` asks for it, and at each rescan; until cancelled.

        Args:
            changed: Called when ``models`` says something new.
        """
        pause = self._config.index.rescan_minutes * 60 or math.inf
        while True:
            asked = self._asked.beats
            await self.take_up()
            found = await to_thread.run_sync(self._resolver.available, self._names())
            waiting = any(map(_may_change, self._folders))
            self.incomplete = waiting or not all(model.local for model in found)
            if found != self.models:
                self.models = found
                changed()
            with anyio.move_on_after(pause):
                await self._asked.after(asked)

    def look_again(self) -> None:
        """Have the models looked for again: one is missing, new, or has another form; returns at once."""
        self.incomplete = True
        self._asked.beat()

    async def take_up(self) -> None:
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
