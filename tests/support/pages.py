"""A page served in a thread, over an engine that is real but for its weights, for tests that knock from outside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from engines import settings
from fakes import FakeLoader

from indexer.config import Config
from indexer.engine import Engine, open_engine
from mcp_server.engine_port import EnginePort
from mcp_server.page.port import PageServer


@dataclass
class Page:
    """A page that is being served.

    Attributes:
        url: With the token.
        pages: How many are open now, as the owner counts them.
    """

    url: str
    engine: Engine
    server: PageServer
    portal: BlockingPortal
    pages: int = 0

    @property
    def token(self) -> str:
        return self.url.partition("#")[2]

    @property
    def origin(self) -> str:
        return self.url.partition("/#")[0]

    def add(self, folder: Path) -> None:
        self.portal.call(self.engine.add_folder, str(folder))

    def index(self) -> None:
        self.portal.call(self.engine.index)


@asynccontextmanager
async def _served(page: list[Page], config: Config, directory: Path, portal: BlockingPortal) -> AsyncIterator[Page]:
    async with open_engine(config, version="1.2.3", loader=FakeLoader()) as engine, anyio.create_task_group() as tasks:

        async def ours() -> EnginePort:
            return engine

        @contextlib.contextmanager
        def viewed() -> Iterator[None]:
            made.pages += 1
            try:
                yield
            finally:
                made.pages -= 1

        server = PageServer(str(directory), ours, viewed)
        made = Page("", engine, server, portal)
        tasks.start_soon(server.run)
        await anyio.lowlevel.checkpoint()
        made.url = await server.address()
        yield made
        tasks.cancel_scope.cancel()


@contextlib.contextmanager
def served(tmp_path: Path) -> Iterator[Page]:
    """Serve a page over an empty index; port and token lie in ``tmp_path / "run"``."""
    directory = tmp_path / "run"
    directory.mkdir(exist_ok=True)
    with start_blocking_portal("asyncio") as portal:
        context = _served([], settings(tmp_path / "data"), directory, portal)
        with portal.wrap_async_context_manager(context) as page:
            yield page
