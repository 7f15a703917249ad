"""Clients that start ``folder-mcp serve`` as real clients do, over a data directory of their own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mcp_server.processes.owner_lock import OwnerFiles, owner_files_for
from mcp_server.state_files import read_state

ROOT = Path(__file__).resolve().parents[2]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
LIMIT = 60.0
"""Seconds after which a test gives up: generous, for machines that do other things."""


class Home:
    """A data directory, a folder with notes, a configuration whose model is missing: everything but meaning works."""

    def __init__(self, base: Path, settings: str = "") -> None:
        self.base = base
        self.data = base / "data"
        self.notes = base / "notes"
        self.config = base / "config.toml"
        self.notes.mkdir(parents=True, exist_ok=True)
        (self.notes / "keys.md").write_text("# Keys\n\nRotate the signing key every March.\n", encoding="utf-8")
        self.config.write_text(f'[model]\ndefault = "./no-such-model"\noffline = true\n{settings}\n', encoding="utf-8")
        self.clients: list[Client] = []

    @property
    def owner_files(self) -> OwnerFiles:
        return owner_files_for(str(self.data))

    @property
    def flags(self) -> list[str]:
        return ["--config", str(self.config), "--data-dir", str(self.data)]

    def note(self) -> dict[str, Any]:
        return read_state(self.owner_files.state_file)

    def owner(self) -> int:
        return int(self.note()["pid"])

    def client(self, *folders: str, **more: Any) -> Client:
        one = Client(self, [*folders], **more)
        self.clients.append(one)
        return one

    def owners(self) -> list[int]:
        """Process ids of all owners of this data directory, as the system sees them."""
        return [int(pid) for pid, words in processes() if "owner" in words and str(self.data) in words]

    def command(self, *words: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mcp_server", *words, *self.flags]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, timeout=limit, stdin=subprocess.DEVNULL, check=False
        )

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for pid in self.owners():
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
        shutil.rmtree(self.owner_files.directory)


class Client:
    """One MCP client and the process it started."""

    def __init__(
        self,
        home: Home,
        folders: list[str],
        *,
        modern: bool = False,
        words: list[str] | None = None,
        root: Path = ROOT,
        **how: Any,
    ) -> None:
        self.modern = modern
        command = [sys.executable, "-m", "mcp_server", "serve", *(words or []), *home.flags, *folders]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=root, **how
        )
        self.err: list[bytes] = []
        self.other: list[dict[str, Any]] = []
        self._answers: dict[Any, dict[str, Any]] = {}
        self._news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._number = 0
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._read_err)]
        for thread in self._threads:
            thread.start()

    def initialize(self) -> dict[str, Any]:
        info = {"name": "test", "version": "1"}
        answer = self.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
        self.tell("notifications/initialized")
        return answer

    def begin(self) -> Client:
        """Do what a client of its era does first."""
        if self.modern:
            self.ask("server/discover")
        else:
            self.initialize()
        return self

    def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", name=name, arguments=arguments)

    def found(self, query: str) -> list[str]:
        """Paths of the hits of a search; none while the index is being opened."""
        answer = self.tool("search", query=query)["result"]
        return [] if answer.get("isError") else [hit["path"] for hit in answer["structuredContent"]["hits"]]

    def finds(self, query: str) -> list[str]:
        """Search until there is a hit: the folder is being read meanwhile. Each search waits for its answer."""
        until = time.monotonic() + LIMIT
        while not (paths := self.found(query)):
            assert time.monotonic() < until, f"nothing found: {self.tool('search', query=query)}"
        return paths

    def status(self) -> dict[str, Any]:
        return self.tool("status")["result"]["structuredContent"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.answer(self.send(method, **params))

    def send(self, method: str, **params: Any) -> int:
        self._number += 1
        if self.modern:
            params["_meta"] = MODERN
        self._write({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return self._number

    def tell(self, method: str, **params: Any) -> None:
        self._write({"jsonrpc": "2.0", "method": method, "params": params})

    def answer(self, number: int | str, limit: float = LIMIT) -> dict[str, Any]:
        until = time.monotonic() + limit
        while number not in self._answers:
            try:
                message = self._news.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no answer to {number}; stderr: {b''.join(self.err).decode()}") from None
            assert message is not None, f"the process ended; stderr: {b''.join(self.err).decode()}"
            if "id" in message and "method" not in message:
                assert message["id"] not in self._answers, f"answered twice: {message}"
                self._answers[message["id"]] = message
            else:
                self.other.append(message)
        return self._answers[number]

    def notice(self, method: str, limit: float = LIMIT) -> dict[str, Any]:
        """The next notification of a kind; those that came with answers before count."""
        until = time.monotonic() + limit
        while True:
            for message in self.other:
                if message.get("method") == method:
                    self.other.remove(message)
                    return message
            try:
                news = self._news.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {method}; stderr: {b''.join(self.err).decode()}") from None
            assert news is not None, f"the process ended; stderr: {b''.join(self.err).decode()}"
            if "method" in news:
                self.other.append(news)
            else:
                self._answers[news["id"]] = news

    def silent_for(self, seconds: float) -> bool:
        try:
            return self._news.get(timeout=seconds) is None
        except queue.Empty:
            return True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream and not stream.closed:
                stream.close()

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        assert self.process.stdout
        try:
            for line in self.process.stdout:
                self._news.put(json.loads(line))
        except (OSError, ValueError):
            pass  # closed by the test
        self._news.put(None)

    def _read_err(self) -> None:
        assert self.process.stderr
        with contextlib.suppress(OSError, ValueError):
            self.err.extend(self.process.stderr)


def processes() -> list[tuple[str, list[str]]]:
    """All processes that have not ended, and their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if words != [""]:  # else a zombie or a kernel thread
                found.append((entry.name, words))
    return found


def wait_gone(pid: int, limit: float = LIMIT) -> float:
    """Wait until a process has ended (a zombie has); return the seconds it took."""
    began = time.monotonic()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0.0
    try:
        assert select.select([fd], [], [], limit)[0], f"process {pid} is still there"
    finally:
        os.close(fd)
    return time.monotonic() - began
