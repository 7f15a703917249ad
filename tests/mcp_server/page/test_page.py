"""The page's server, knocked at over HTTP: who may come in, what is told, what can be asked."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pages import Page, served

from mcp_server.page import app, web_server
from mcp_server.page.port import STATE_FILE, PageServer
from mcp_server.page.unproven import UnprovenConnections


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """For all tests that only ask: nothing is indexed, nobody is told that the owner ends."""
    with served(tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture
def own_page(tmp_path: Path) -> Iterator[Page]:
    """For a test that adds a folder, counts who looks, or ends the owner."""
    with served(tmp_path) as page:
        yield page


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "notes"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\nA swarm follows its queen.\n\n" + "More.\n" * 60, encoding="utf-8")
    (folder / "evil.md").write_text("<script>document.title='owned'</script> swarm\n", encoding="utf-8")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 this is no archive")
    (folder / "logo.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def indexed_page(tmp_path_factory: pytest.TempPathFactory, notes: Path) -> Iterator[Page]:
    """Has indexed the notes."""
    with served(tmp_path_factory.mktemp("indexed")) as page:
        page.add(notes)
        page.index()
        yield page


def knock(
    page: Page, path: str, body: Any = None, *, method: str = "", known: bool = True, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request as it is told; header names with underscores."""
    address = urlsplit(page.origin)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True)
        sent = {"Host": address.netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if known:
            sent.setdefault("Authorization", f"Bearer {page.token}")
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def asked(page: Page, what: str, **question: Any) -> dict[str, Any]:
    status, _, body = knock(page, f"/api/{what}", question)
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


# Who may come in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/live", "/api/search", "/api/read", "/api/files", "/api/nothing"])
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "bearer {token}", "{token}", "Bearer {token}x"])
def test_nothing_is_told_without_the_token(page: Page, path: str, authorization: str) -> None:
    given = authorization.format(token=page.token)
    status, _, body = knock(page, path, {"query": "x"}, known=False, Authorization=given)
    assert status == 401
    assert page.token.encode() not in body


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", "localhost.evil:{port}", ""]
)
@pytest.mark.parametrize("path", ["/", "/main.js", "/api/hello?nonce=0123456789abcdef", "/api/live"])
def test_a_name_that_was_made_to_point_here_gets_nothing(page: Page, host: str, path: str) -> None:
    port = urlsplit(page.origin).port
    status, _, body = knock(page, path, Host=host.format(port=port))
    assert status in (400, 421)
    assert b"folder-mcp" not in body


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
@pytest.mark.parametrize("path", ["/api/search", "/api/live", "/api/hello?nonce=0123456789abcdef"])
def test_other_sites_are_sent_away_even_with_the_token(page: Page, origin: str, path: str) -> None:
    port = urlsplit(page.origin).port
    assert knock(page, path, Origin=origin.format(port=port))[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_of_another_site_is_believed(page: Page, site: str) -> None:
    assert knock(page, "/api/hello?nonce=0123456789abcdef", Sec_Fetch_Site=site)[0] == 403


def test_a_preflight_is_not_granted(page: Page) -> None:
    status, headers, _ = knock(page, "/api/search", method="OPTIONS", Origin=page.origin)
    assert status == 405
    assert not any(name.startswith("access-control") for name in headers)


def test_the_owner_proves_itself_without_saying_the_token(page: Page) -> None:
    nonce = "0123456789abcdef" * 2
    status, _, body = knock(page, f"/api/hello?nonce={nonce}", known=False)
    expected = hmac.new(page.token.encode(), f"folder-mcp|page|{nonce}".encode(), hashlib.sha256).hexdigest()
    assert (status, json.loads(body)) == (200, {"proof": expected})
    assert knock(page, "/api/hello?nonce=short")[0] == 400


@pytest.mark.parametrize("path", ["/", "/main.js", "/base.css", "/api/files", "/api/nothing", "/nothing"])
def test_every_answer_forbids_foreign_code_and_keeping(page: Page, path: str) -> None:
    _, headers, _ = knock(page, path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "frame-ancestors 'none'" in policy and "require-trusted-types-for 'script'" in policy
    assert headers["cache-control"] == "no-store"
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_the_page_asks_for_nothing_from_elsewhere_and_makes_no_markup_of_text() -> None:
    static = Path(__file__).resolve().parents[3] / "mcp_server/page/static"
    for file in static.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, file
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ):
            assert word not in text, f"{word} in {file}"


# What it tells ---------------------------------------------------------------------------------------------------


def test_its_files_are_served_with_their_types(page: Page) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/main.js", "text/javascript"),
        ("/parts.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ):
        status, headers, body = knock(page, path, known=False)
        assert status == 200 and headers["content-type"].startswith(kind) and body
    assert knock(page, "/../port.py")[0] == 404


def listened(page: Page, until: str, notes: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Events of the stream, up to the first that ``until`` names."""
    address = urlsplit(page.origin)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    connection.request("GET", "/api/live", headers={"Authorization": f"Bearer {page.token}"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
    found = []
    try:
        while True:
            name = answer.readline().decode().removeprefix("event: ").strip()
            document = json.loads(answer.readline().decode().removeprefix("data: "))
            answer.readline()
            found.append((name, document))
            if name == "status" and notes is not None and not document["folders"]:
                page.add(notes)
            if until == name or (until == "indexed" and name == "status" and document["work"]["chunks_embedded"]):
                return found
    finally:
        connection.close()


@pytest.mark.slow
def test_an_open_page_is_told_what_happens_as_it_happens(own_page: Page, notes: Path) -> None:
    events = listened(own_page, "indexed", notes)
    assert events[0][0] == "past"
    assert events[-1][1]["folders"][0]["path"] == str(notes)
    assert any(name == "news" and news["minutes"] for name, news in events)


def test_a_page_that_leaves_is_not_counted_any_more(own_page: Page) -> None:
    listened(own_page, "status")
    for _ in range(500):
        if not own_page.pages:
            return
        own_page.portal.call(_tick)
    pytest.fail("the page is still counted")


async def _tick() -> None:
    import anyio

    await anyio.sleep(0.01)


def test_a_page_is_told_that_the_owner_ends(own_page: Page) -> None:
    import threading

    events: list[Any] = []
    thread = threading.Thread(target=lambda: events.extend(listened(own_page, "end")))
    thread.start()
    while not own_page.pages:
        own_page.portal.call(_tick)
    own_page.portal.call(own_page.server.shut_down, "stop")
    thread.join(30)
    assert events[-1] == ("end", {"why": "stop"})


# What can be asked -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hits_come_in_pieces_that_match_and_pieces_that_do_not(indexed_page: Page) -> None:
    answer = asked(indexed_page, "search", query="swarms")
    assert {Path(hit["path"]).name for hit in answer["hits"]} == {"bees.md", "evil.md"}
    for hit in answer["hits"]:
        assert "snippet" not in hit
        assert [part for part, matches in hit["parts"] if matches] == ["swarm"]
    assert asked(indexed_page, "search", query="queen", folder="notes")["hits"]
    assert not asked(indexed_page, "search", query="queen", type="pdf")["hits"]


def test_a_place_is_shown_with_what_stands_around_it(indexed_page: Page, notes: Path) -> None:
    reading = asked(indexed_page, "read", path=str(notes / "bees.md"), locator="lines 20-21", around=2)
    assert (reading["locator"], reading["first_line"], reading["first"], reading["last"]) == (
        "lines 18-23",
        18,
        20,
        21,
    )
    start = asked(indexed_page, "read", path=str(notes / "bees.md"), locator="lines 1-3", around=2)
    assert start["locator"] == "lines 1-5"


def test_files_that_are_not_searchable_are_listed_and_filtered(indexed_page: Page) -> None:
    everything = asked(indexed_page, "files")
    failed = asked(indexed_page, "files", outcome="failed")
    assert [Path(one["path"]).name for one in failed["files"]] == ["broken.docx"]
    assert everything["files"][0] == failed["files"][0] and failed["files"][0]["reason"]
    assert sum(one["files"] for one in everything["reasons"]) == everything["total"]
    assert asked(indexed_page, "files", text="BROKEN docx")["total"] == 1
    assert asked(indexed_page, "files", text="no such file")["total"] == 0


@pytest.mark.parametrize(
    ("what", "question", "status", "words"),
    [
        ("search", {"query": " "}, 422, "query is empty"),
        ("search", {"query": "x", "folder": "/nowhere"}, 422, "not indexed"),
        ("search", {"query": "x", "mode": "magic"}, 400, "mode"),
        ("search", {"query": "x", "colour": "red"}, 400, "colour"),
        ("search", {"query": "x" * 70_000}, 413, "too long"),
        ("read", {"path": "/etc/passwd"}, 422, "not an indexed file"),
        ("read", {"path": "file://elsewhere/x"}, 422, "another machine"),
        ("files", {"outcome": "eaten"}, 400, "outcome"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_why(
    page: Page, what: str, question: dict[str, Any], status: int, words: str
) -> None:
    got, _, body = knock(page, f"/api/{what}", question)
    assert got == status
    assert words in json.loads(body)["error"]


def test_a_long_query_is_cut_as_the_tool_cuts_it_and_said_so(page: Page) -> None:
    notice = asked(page, "search", query="whale " * 2_500)["notices"][0]
    assert "15,000 characters; only the first 2,000 were used" in notice


def test_what_is_no_json_is_refused(page: Page) -> None:
    assert knock(page, "/api/search", b"{")[0] == 400
    assert knock(page, "/api/search")[0] == 405


# What one of them may take -----------------------------------------------------------------------------------------


def test_streams_of_events_are_bounded(own_page: Page) -> None:
    address = urlsplit(own_page.origin)
    opened = []
    try:
        for _ in range(app.MAX_STREAMS):
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
            opened.append(connection)
            connection.request("GET", "/api/live", headers={"Authorization": f"Bearer {own_page.token}"})
            assert connection.getresponse().status == 200
        status, _, body = knock(own_page, "/api/live")
        assert (status, "close one" in json.loads(body)["error"]) == (429, True)
        assert asked(own_page, "files")["total"] == 0
    finally:
        for connection in opened:
            connection.close()


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(own_page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(app, "BODY_S", 0.02)
    address = urlsplit(own_page.origin)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as slow:
        head = f"POST /api/search HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {own_page.token}\r\n"
        slow.sendall(f"{head}Content-Length: 20\r\n\r\n{{".encode())
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: {host}\r\nX: "], ids=len)
def test_a_connection_that_shows_no_token_in_time_is_closed(
    own_page: Page, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    import socket

    monkeypatch.setattr(web_server, "PROOF_S", 0.05)
    address = urlsplit(own_page.origin)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as slow:
        slow.sendall(sent)
        assert slow.recv(4096) == b""
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:  # one that has shown it stays: its second request comes later than that
        for _ in range(2):
            connection.request("POST", "/api/files", b"{}", {"Authorization": f"Bearer {own_page.token}"})
            assert connection.getresponse().read()
            own_page.portal.call(_wait, 0.1)
    finally:
        connection.close()


async def test_a_connection_that_goes_on_asking_without_a_token_stays_until_others_need_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the probes of a load balancer do."""
    import asyncio

    monkeypatch.setattr(web_server, "PROOF_S", 1000.0)
    loop = asyncio.get_running_loop()
    unproven = UnprovenConnections()
    one = web_server._Connection(unproven)
    first = one._timer
    one.asked()
    assert first.cancelled() and one._timer.when() >= first.when() and one._timer.when() > loop.time() + 990
    one.proven()
    assert one._timer.cancelled() and not len(unproven)
    one.asked()
    assert one._timer.cancelled()  # nothing is timed any more


async def _wait(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


# The next owner --------------------------------------------------------------------------------------------------


def test_the_next_owner_has_the_same_address_and_only_the_user_can_read_it(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        url = first.url
    assert stat.S_IMODE((tmp_path / "run" / STATE_FILE).stat().st_mode) == 0o600
    with served(tmp_path) as second:
        assert second.url == url
        assert knock(second, "/")[0] == 200


def test_whoever_takes_the_port_in_between_gets_no_later_token(tmp_path: Path) -> None:
    import socket

    with served(tmp_path) as first:
        url = first.url
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)), served(tmp_path) as second:
        assert second.origin != first.origin and second.token != first.token


@pytest.mark.parametrize("left", ["", "{}", '{"port": 1, "token": "x", "at": 1}', '{"port": "x", "token": 5}'])
def test_a_note_that_says_nothing_is_passed_over(tmp_path: Path, left: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE_FILE).write_text(left, encoding="utf-8")
    with served(tmp_path) as page:
        assert knock(page, "/")[0] == 200


def test_an_old_note_is_not_taken_up(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        url = first.url
    note = tmp_path / "run" / STATE_FILE
    note.write_text(json.dumps({**json.loads(note.read_text(encoding="ascii")), "at": 1.0}), encoding="ascii")
    with served(tmp_path) as second:
        assert second.token not in url


def test_holding_the_door_imports_no_web_server() -> None:
    """The owner's start must not pay for a page that nobody has asked for."""
    code = (
        "import sys, mcp_server.processes.owner, mcp_server.page.port\n"
        "print(sorted({'uvicorn', 'starlette', 'pydantic', 'mcp'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.slow
async def test_a_port_nobody_asked_for_has_no_port(tmp_path: Path) -> None:
    import anyio

    server = PageServer(str(tmp_path), anyio.Event().wait)  # type: ignore[arg-type]
    with anyio.move_on_after(0.05):
        await server.run()
    assert server._bound is None and not list(tmp_path.iterdir())
