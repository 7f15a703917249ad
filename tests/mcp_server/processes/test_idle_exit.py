"""When an owner that nobody uses ends."""

from __future__ import annotations

import pytest

from mcp_server.processes.owner import idle_deadline


@pytest.mark.parametrize(
    ("work", "had_client", "linger", "expected"),
    [
        (False, True, 7200, 700),  # ten minutes after the last work or client
        (True, True, 7200, 7300),  # unfinished: two hours after the last client
        (True, True, 0, 100),  # no lingering: with the last client
        (False, True, 0, 100),
        (False, False, 0, 700),  # nobody came yet: give them the time to
        (True, False, 0, 700),
        (True, False, 7200, 7300),
    ],
)
def test_the_end_of_an_unused_owner(work: bool, had_client: bool, linger: float, expected: float) -> None:
    assert (
        idle_deadline(left_at=100, busy_at=100, work=work, had_client=had_client, linger=linger, idle_exit=600)
        == expected
    )


def test_idle_time_begins_when_the_work_is_done() -> None:
    assert idle_deadline(left_at=100, busy_at=5000, work=False, had_client=True, linger=7200, idle_exit=600) == 5600
