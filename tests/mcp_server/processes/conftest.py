from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from mcp_server.processes.owner_lock import OwnerFiles, owner_files_for


@pytest.fixture
def owner_files() -> Iterator[OwnerFiles]:
    """A short path, as runtime directories have it."""
    base = tempfile.mkdtemp(prefix="fm-", dir="/tmp")
    yield owner_files_for("/data", base)
    shutil.rmtree(base)
