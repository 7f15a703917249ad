"""The page's own script, run by node against whoever has the port: the token is said to nobody but the owner."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import Page, served

SCRIPT = Path(__file__).resolve().parents[3] / "mcp_server/page/static/owner.js"
TAB = """
const [origin, kept, given, script] = process.argv.slice(2);
const stored = new Map(kept ? [["folder-mcp token", kept]] : []);
const [getItem, setItem] = [(key) => stored.get(key) ?? null, (key, value) => stored.set(key, value)];
globalThis.sessionStorage = { getItem, setItem };
globalThis.location = { hash: given ? `#${given}` : "", pathname: "/" };
globalThis.history = { replaceState: () => { location.hash = ""; } };
globalThis.addEventListener = () => {};
const real = fetch;
globalThis.fetch = (path, how) => real(origin + path, how);
const { ask, token } = await import(script);
let said;
try { said = await ask("files", {}); } catch (error) { said = { error: error.message }; }
console.log(JSON.stringify({ said, token: token(), hash: location.hash }));
process.exit(0);
"""
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")


def tab(tmp_path: Path, origin: str, *, kept: str = "", given: str = "") -> dict[str, Any]:
    """Open a tab: with the token it has kept, and one in its address. Ask for the files."""
    program, script = tmp_path / "tab.mjs", tmp_path / "owner.mjs"
    program.write_text(TAB, encoding="utf-8")
    script.write_bytes(SCRIPT.read_bytes())
    command = [shutil.which("node") or "", str(program), origin, kept, given, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Thief(http.server.BaseHTTPRequestHandler):
    """Another program that has taken the port of an owner that ended; answers everything as if it were the owner."""

    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(f"{self.command} {self.path} {dict(self.headers)}")
        body = json.dumps({"proof": "0" * 64, "files": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def thief() -> Iterator[tuple[str, list[str]]]:
    heard: list[str] = []
    kind = type("ThiefOfThisTest", (Thief,), {"heard": heard})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.mark.slow
@pytest.mark.parametrize("which", ["kept", "given"])
def test_a_program_that_took_the_port_is_told_no_token(
    tmp_path: Path, thief: tuple[str, list[str]], which: str
) -> None:
    origin, heard = thief
    secret = "s" * 43
    found = tab(tmp_path, origin, **{which: secret})
    assert found["said"] == {"error": "the background process does not answer"}
    assert heard
    assert all("/api/hello" in one for one in heard)
    assert not any(secret in one or "uthorization" in one for one in heard)


@pytest.mark.slow
def test_a_new_tab_takes_the_token_of_its_address(tmp_path: Path, page: Page) -> None:
    found = tab(tmp_path, page.origin, given=page.token)
    assert found["said"]["total"] == 0
    assert (found["token"], found["hash"]) == (page.token, "")


@pytest.mark.slow
def test_a_tab_keeps_its_token_when_a_link_brings_the_one_of_another(tmp_path: Path, page: Page) -> None:
    found = tab(tmp_path, page.origin, kept=page.token, given="x" * 43)
    assert found["said"]["total"] == 0
    assert (found["token"], found["hash"]) == (page.token, "")


@pytest.mark.slow
def test_a_tab_of_a_former_owner_takes_the_new_token_that_the_owner_knows(tmp_path: Path, page: Page) -> None:
    found = tab(tmp_path, page.origin, kept="o" * 43, given=page.token)
    assert found["said"]["total"] == 0
    assert found["token"] == page.token
