"""The export pass: an ONNX form for each model that only torch can load on this CPU, made once, in the background.

It waits at the slot behind everybody else. A form that passed its check serves from then on, under the same vector
key: nothing is embedded again. One that did not is recorded, and the model stays with torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from anyio import to_thread

from indexer.config import Config
from indexer.errors import SlotUnavailable
from indexer.folder import Folders
from indexer.model import export_steps
from indexer.model.embedder import Loader, ModelSpec, Progress
from indexer.model.exports import Verdict, due
from indexer.model.slot import ModelSlot
from indexer.models import Models
from indexer.pulse import Pulse

log = logging.getLogger(__name__)


class Making(Protocol):
    """How an export is made; tests in virtual time bring their own."""

    def __call__(
        self, spec: ModelSpec, loader: Loader, data_dir: Path, progress: Progress, stopped: Callable[[], bool]
    ) -> Generator[None, None, Verdict]:
        """See ``export_steps.steps``."""


class ExportPass:
    """Makes what is due, one after the other.

    Args:
        changed: Called when a model's form was made or refused.
        steps: Makes one.
    """

    def __init__(
        self,
        slot: ModelSlot,
        loader: Loader,
        models: Models,
        config: Config,
        folders: Folders,
        pulse: Pulse,
        changed: Callable[[], None],
        steps: Making = export_steps.steps,
    ) -> None:
        self._slot = slot
        self._loader = loader
        self._models = models
        self._config = config
        self._folders = folders
        self._pulse = pulse
        self._changed = changed
        self._steps = steps
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled; with a runtime the user has chosen there is nothing to do."""
        if self._config.model.runtime != "auto":
            return
        while True:
            spec = self._next()
            if spec is None:
                await self._pulse.wait()
                continue
            self._seen.add(spec.key)  # also when it fails: the next start tries again what was not refused
            if await to_thread.run_sync(due, spec, self._config.data_dir):
                await self._make(spec)

    def _next(self) -> ModelSpec | None:
        """The first model not looked at yet that torch serves on the CPU."""
        for folder in self._folders:
            spec = folder.model.spec
            if spec is not None and (spec.runtime, spec.device) == ("torch", "cpu") and spec.key not in self._seen:
                return spec
        return None

    async def _make(self, spec: ModelSpec) -> None:
        data_dir = self._config.data_dir
        try:
            outcome = await self._slot.occupy(spec, partial(self._steps, spec, self._loader, data_dir))
        except SlotUnavailable as error:
            log.warning("no ONNX form of %s was made: %s %s", spec.name, error, error.hint)
            return
        except anyio.get_cancelled_exc_class():
            export_steps.spared(data_dir, spec.key)  # the program is closing: not the export's fault
            raise
        if outcome.ok:
            log.info("%s has an ONNX form now: it needs torch no more (cosine %.6f)", spec.name, outcome.cosine)
            await self._take_over(spec)
        else:
            log.warning("the ONNX form of %s was refused, torch serves it: %s", spec.name, outcome.reason)
        self._changed()
        self._pulse.beat()

    async def _take_over(self, spec: ModelSpec) -> None:
        """Resolve the model anew for every folder that uses it."""
        for folder in self._folders:
            if folder.model.spec is not None and folder.model.spec.key == spec.key:
                folder.model = await to_thread.run_sync(self._models.again, folder.model.name)
