from __future__ import annotations

from pathlib import Path

import pytest
from killed_indexing import plant, survive

FILES = 150


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_at_random_moments_nothing_finished_is_redone_lost_or_doubled(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    plant(folder, FILES)
    assert await survive(tmp_path / "data", folder, FILES, kills=3) == []
