"""News of the status through a relay, from one owner and from the next: real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from relays import MODERN, Client, Home, wait_gone

from mcp_server.protocol.status_resource import URI

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]

UPDATED = "notifications/resources/updated"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def watch(client: Client) -> None:
    """Ask to be told, as a client of its era does."""
    if client.modern:
        client.send("subscriptions/listen", notifications={"resourceSubscriptions": [URI]})
        client.notice("notifications/subscriptions/acknowledged")
    else:
        assert client.ask("resources/subscribe", uri=URI)["result"] == {}


def told_of(client: Client, path: Path) -> None:
    """Add a file: the client is told, until the status shows it."""
    before = client.status()["folders"][0]["files"]["indexed"]
    path.write_text("a new note about the quiet harbour\n", encoding="utf-8")
    while client.status()["folders"][0]["files"]["indexed"] <= before:
        assert client.notice(UPDATED)["params"]["uri"] == URI


@pytest.mark.parametrize("modern", [False, True])
def test_a_client_is_told_of_changes_by_one_owner_and_by_the_next(home: Home, modern: bool) -> None:
    client = home.client(str(home.notes), modern=modern).begin()
    assert client.finds("signing")
    watch(client)
    told_of(client, home.notes / "harbour.md")
    first = home.owner()
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    assert client.finds("harbour")  # another owner serves
    assert home.owner() != first
    told_of(client, home.notes / "lighthouse.md")
    seen = [each for each in client.other if each["method"] == "notifications/subscriptions/acknowledged"]
    assert seen == [], "a client that listens is told so once"


def test_a_client_that_listens_does_not_hold_up_the_end_of_an_owner(home: Home) -> None:
    client = home.client(str(home.notes), modern=True).begin()
    assert client.finds("signing")
    watch(client)
    began = time.monotonic()
    assert home.command("stop").returncode == 0
    assert time.monotonic() - began < 9.0, "it waited for an answer that never comes"


def test_progress_comes_through_the_relay_before_its_answer(home: Home) -> None:
    for modern in (False, True):
        client = home.client(str(home.notes), modern=modern).begin()
        assert client.finds("signing")
        meta = {"progressToken": "t1", **(MODERN if modern else {})}
        params = {"name": "search", "arguments": {"query": "signing"}, "_meta": meta}
        client._write({"jsonrpc": "2.0", "id": "asked", "method": "tools/call", "params": params})
        assert client.answer("asked")["result"]["structuredContent"]["hits"]
        (told,) = [each["params"] for each in client.other if each["method"] == "notifications/progress"]
        assert (told["progressToken"], told["message"]) == ("t1", "searching")
