from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from mcp_server.processes.owner_lock import Place, place_of


@pytest.fixture
def place() -> Iterator[Place]:
    """A short path, as runtime directories have it."""
    base = tempfile.mkdtemp(prefix="fm-", dir="/tmp")
    yield place_of("/data", base)
    shutil.rmtree(base)
