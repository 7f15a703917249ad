"""MCP over HTTP under load: what an honest client waits, and what the server holds afterwards.

    python benchmarks/http_sessions.py [--sessions 2000] [--at-once 50] [--slow 200] [--idle 1000] [--only sessions]

A real server process (``serve --http``) over a folder of generated notes, without a model: searches go by word. The
load comes from this process, on connections of its own, with the right token. An honest client searches beside it, one
search after the other with a pause of 50 ms, on a connection that it keeps; its times alone are the first row.

- sessions: initialize, ``tools/list``, a search, gone; once with DELETE, once without.
- slow: each sends a request's head, then its body one byte a second.
- deaf: each asks for ``tools/list`` once a second and reads nothing; then as fast as it can.
- idle: connections that send nothing; then sessions that hold an event stream open (GET).

Memory is the resident set of the server process, descriptors are those that it has open; both after the load has left.
The machine's CPU seconds are of all processes, ours, the server's and others' (two cores: twice the seconds at most).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import anyio
import notes
import psutil
import report

VERSION = "2025-11-25"
LIMIT_S = 60.0
"""Seconds after which a request of the honest client counts as unanswered."""
SESSION_LIMIT_S = 240.0
"""Seconds after which a session of the load is given up."""


@dataclass(frozen=True)
class Served:
    """The server under load.

    Attributes:
        port: Of 127.0.0.1.
        token: That requests must carry.
        pid: Of its process.
    """

    port: int
    token: str
    pid: int

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)

    def cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextmanager
def serving(base: Path) -> Iterator[Served]:
    """Start the server over generated notes; wait until a search finds one."""
    notes.plant(base / "notes", 200)
    config = base / "config.toml"
    config.write_text('[model]\ndefault = "./no-such-model"\noffline = true\n', encoding="utf-8")
    flags = ["--config", str(config), "--data-dir", str(base / "data")]
    command = [sys.executable, "-m", "mcp_server", "serve", str(base / "notes"), "--http", "127.0.0.1:0", *flags]
    with (
        open(base / "stderr.txt", "w+", encoding="utf-8") as log,
        subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT) as process,
    ):
        try:
            until = time.monotonic() + LIMIT_S
            while "serving http://" not in (base / "stderr.txt").read_text(encoding="utf-8"):
                assert process.poll() is None and time.monotonic() < until, "the server did not start"
                time.sleep(0.1)
            text = (base / "stderr.txt").read_text(encoding="utf-8")
            port = int(text.split("serving http://127.0.0.1:")[1].split("/")[0])
            token = (base / "data" / "http-token").read_text(encoding="ascii").strip()
            yield Served(port, token, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


class Connection:
    """One HTTP/1.1 connection that is kept; speaks as much HTTP as this server's answers need."""

    def __init__(self, served: Served, stream: Any) -> None:
        self._served = served
        self.stream = stream
        self._buffer = b""
        self.session = ""
        self._number = 0

    def head(self, method: str, length: int | None, accept: str = "application/json, text/event-stream") -> bytes:
        lines = [
            f"{method} /mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self._served.port}",
            f"Authorization: Bearer {self._served.token}",
            f"Accept: {accept}",
            "Content-Type: application/json",
        ]
        lines += [f"Mcp-Session-Id: {self.session}", f"Mcp-Protocol-Version: {VERSION}"] if self.session else []
        lines += [] if length is None else [f"Content-Length: {length}"]
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"

    async def ask(self, method: str, **params: Any) -> tuple[int, dict[str, Any]]:
        """Send a request; return the status and the JSON-RPC answer."""
        self._number += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}).encode()
        return await self.send("POST", body)

    async def send(self, method: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        await self.stream.send(self.head(method, None if body is None else len(body)) + (body or b""))
        status, headers, content = await self._answer()
        self.session = headers.get("mcp-session-id", self.session)
        text = content.decode("utf-8")
        if "event-stream" in headers.get("content-type", ""):
            text = next((line[6:] for line in text.splitlines() if line.startswith("data: ")), "")
        with contextlib.suppress(ValueError):
            return status, json.loads(text) or {}
        return status, {}

    async def begin(self) -> int:
        info = {"name": "load", "version": "1"}
        status, _ = await self.ask("initialize", protocolVersion=VERSION, capabilities={}, clientInfo=info)
        if status == 200:
            body = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
            status = (await self.send("POST", body))[0]
        return status

    async def search(self, query: str) -> tuple[int, dict[str, Any]]:
        return await self.ask("tools/call", name="search", arguments={"query": query, "mode": "keyword"})

    async def _answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += await self.stream.receive()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if headers.get("transfer-encoding") == "chunked":
            return int(first.split()[1]), headers, await self._chunks()
        return int(first.split()[1]), headers, await self._bytes(int(headers.get("content-length", 0)))

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await self.stream.receive()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    async def _chunks(self) -> bytes:
        parts = []
        while True:
            while b"\r\n" not in self._buffer:
                self._buffer += await self.stream.receive()
            size, self._buffer = self._buffer.split(b"\r\n", 1)
            parts.append((await self._bytes(int(size, 16) + 2))[:-2])
            if int(size, 16) == 0:
                return b"".join(parts)


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Connection]:
    async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
        yield Connection(served, stream)


@dataclass
class Honest:
    """A client that searches one time after the other.

    Attributes:
        took: Seconds of each search.
        other: What went wrong, and how often.
    """

    served: Served
    took: list[float] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        while True:
            try:
                async with connected(self.served) as connection:
                    assert await connection.begin() == 202
                    await self._search(connection)
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, AssertionError) as error:
                self.other[type(error).__name__] += 1
                await anyio.sleep(0.5)

    async def _search(self, connection: Connection) -> None:
        words = notes.vocabulary()
        for number in range(1_000_000):
            began = time.perf_counter()
            try:
                with anyio.fail_after(LIMIT_S):
                    status, answer = await connection.search(words[number % len(words)])
            except TimeoutError:
                self.other["unanswered"] += 1
                return
            if status != 200 or not answer.get("result", {}).get("structuredContent"):
                self.other[str(status)] += 1
                return
            self.took.append(time.perf_counter() - began)
            await anyio.sleep(0.05)


Load = Callable[[Served, Counter[str]], Awaitable[None]]


async def measured(what: str, served: Served, load: Load) -> dict[str, Any]:
    """Run a load beside the honest client; return the row."""
    honest, outcomes = Honest(served), Counter[str]()
    began, cpu, everywhere = time.perf_counter(), served.cpu_s(), report.cpu_everywhere()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(honest.run)
        await load(served, outcomes)
        seconds = time.perf_counter() - began
        cpu, everywhere = served.cpu_s() - cpu, report.cpu_everywhere() - everywhere
        tasks.cancel_scope.cancel()
    await anyio.sleep(3.0)
    row = {
        "load": what,
        "seconds": round(seconds, 1),
        "server CPU s": round(cpu, 1),
        "machine CPU s": round(everywhere, 1),
        "outcomes": ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())),
        "honest searches": len(honest.took),
        **(report.percentiles(honest.took) if honest.took else {}),
        "honest trouble": ", ".join(f"{name} {count}" for name, count in honest.other.items()) or "none",
        "memory MiB": served.memory_mib(),
        "descriptors": served.descriptors(),
    }
    print(json.dumps(row), flush=True)
    return row


def sessions(count: int, at_once: int, *, delete: bool) -> Load:
    """Open, use and leave so many sessions."""

    async def one(served: Served, outcomes: Counter[str]) -> None:
        try:
            with anyio.fail_after(SESSION_LIMIT_S):
                async with connected(served) as connection:
                    outcomes[f"initialize {await connection.begin()}"] += 1
                    outcomes[f"tools/list {(await connection.ask('tools/list'))[0]}"] += 1
                    outcomes[f"search {(await connection.search('key'))[0]}"] += 1
                    if delete:
                        outcomes[f"DELETE {(await connection.send('DELETE', None))[0]}"] += 1
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, TimeoutError) as error:
            outcomes[type(error).__name__] += 1

    async def load(served: Served, outcomes: Counter[str]) -> None:
        limit, began, done = anyio.CapacityLimiter(at_once), time.perf_counter(), list[float]()

        async def limited() -> None:
            async with limit:
                await one(served, outcomes)
                done.append(time.perf_counter() - began)

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(limited)
        outcomes[f"first session over after {done[0]:.1f} s, half of them after {done[len(done) // 2]:.1f} s:"] = count

    return load


def held(count: int, seconds: float, hold: Callable[[Connection, Counter[str]], Awaitable[None]]) -> Load:
    """Hold so many connections for so long, each doing what ``hold`` does."""

    async def load(served: Served, outcomes: Counter[str]) -> None:
        async def one() -> None:
            try:
                async with connected(served) as connection:
                    with anyio.CancelScope():
                        await hold(connection, outcomes)
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                outcomes[f"closed by the server ({type(error).__name__})"] += 1

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(one)
                    if number % 20 == 19:
                        await anyio.sleep(0.02)

    return load


async def send_slowly(connection: Connection, outcomes: Counter[str]) -> None:
    await connection.stream.send(connection.head("POST", 100_000))
    outcomes["begun"] += 1

    async def answer() -> None:
        status, _, _ = await connection._answer()
        outcomes[f"answered {status}"] += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        while True:
            await connection.stream.send(b" ")
            await anyio.sleep(1)


def read_nothing(pause: float) -> Callable[[Connection, Counter[str]], Awaitable[None]]:
    """Ask again and again with a pause of so many seconds, and read nothing after the handshake."""

    async def ask(connection: Connection, outcomes: Counter[str]) -> None:
        await connection.begin()
        outcomes["begun"] += 1
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
        while True:
            await connection.stream.send(connection.head("POST", len(body)) + body)
            outcomes["asked"] += 1
            await anyio.sleep(pause)

    return ask


async def send_nothing(connection: Connection, outcomes: Counter[str]) -> None:
    outcomes["connected"] += 1
    await connection.stream.receive()


async def hold_stream(connection: Connection, outcomes: Counter[str]) -> None:
    outcomes[f"initialize {await connection.begin()}"] += 1
    await connection.stream.send(connection.head("GET", None, "text/event-stream"))
    while b"\r\n\r\n" not in connection._buffer:
        connection._buffer += await connection.stream.receive()
    outcomes[f"stream {connection._buffer.split()[1].decode()}"] += 1
    while True:
        await connection.stream.receive()


def _hits(answer: dict[str, Any]) -> list[Any]:
    return list(answer.get("result", {}).get("structuredContent", {}).get("hits", ()))


async def measure(options: argparse.Namespace, served: Served) -> list[dict[str, Any]]:
    async def alone(served: Served, outcomes: Counter[str]) -> None:
        await anyio.sleep(options.seconds / 2)

    many = options.sessions
    loads: dict[str, list[tuple[str, Load]]] = {
        "sessions": [
            (f"{many} sessions, with DELETE", sessions(many, options.at_once, delete=True)),
            (f"{many} sessions, without DELETE", sessions(many, options.at_once, delete=False)),
        ],
        "slow": [(f"{options.slow} that send a byte a second", held(options.slow, options.seconds, send_slowly))],
        "deaf": [
            (f"{options.slow} that ask and read nothing", held(options.slow, options.seconds, read_nothing(1.0))),
            (f"{options.slow} that flood and read nothing", held(options.slow, options.seconds, read_nothing(0.0))),
        ],
        "idle": [
            (f"{options.idle} that send nothing", held(options.idle, options.seconds, send_nothing)),
            (f"{options.idle} with an event stream", held(options.idle, options.seconds, hold_stream)),
        ],
    }
    with anyio.fail_after(300):  # until the folder is indexed and everything has been loaded
        async with connected(served) as connection:
            await connection.begin()
            while not _hits((await connection.search(notes.vocabulary()[0]))[1]):
                await anyio.sleep(0.5)
    rows = [await measured("alone", served, alone)]
    for name, each in loads.items():
        if options.only in ("", name):
            rows += [await measured(what, served, load) for what, load in each]
    return [*rows, await measured("alone again", served, alone)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long slow, deaf and idle clients stay")
    parser.add_argument("--only", default="", choices=["", "sessions", "slow", "deaf", "idle"])
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as base, serving(Path(base)) as served:
        rows = anyio.run(measure, options, served)
    print(report.table(rows))
    if options.keep:
        report.keep("http_sessions", {"rows": rows}, before)


if __name__ == "__main__":
    main()
