"""The state of one client's MCP session that a new server must get: its handshake, subscriptions, calls in flight.

Pure, standard library only. Requests and answers are JSON-RPC lines. When a server is lost, calls that only read are
repeated, once; for every other call it is unknown whether it was done, and the client is told so.
"""

from __future__ import annotations

import json
import os

from mcp_server.protocol.lines import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ_ONLY_TOOLS = frozenset({"search", "read", "status"})
READ_ONLY_METHODS = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    }
)
"""Methods that change nothing, or are idempotent."""
LISTEN = "subscriptions/listen"
"""A request that stays unanswered for as long as the client listens: repeated to every new server."""
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
"""The key of a notification that names its request to listen."""
LOST = -32002
"""Error code of a call whose server was lost. (-32000 and -32001 are the SDK's.)"""


class OpenRequest:
    """A request without an answer yet.

    Attributes:
        line: The client's line.
        name: The method, and the tool if it is a call of one.
        read_only: Whether it may be repeated.
        repeated: Whether it has been.
        progress_token: Under which the client gets progress, or None.
    """

    __slots__ = ("line", "name", "progress_token", "read_only", "repeated")

    def __init__(self, line: bytes, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params")
        params = params if isinstance(params, dict) else {}
        tool = str(params.get("name")) if method == "tools/call" else ""
        meta = params.get("_meta")
        self.line = line
        self.name = f"{method} {tool}".rstrip()
        self.read_only = tool in READ_ONLY_TOOLS if method == "tools/call" else method in READ_ONLY_METHODS
        self.progress_token = meta.get("progressToken") if isinstance(meta, dict) else None
        self.repeated = False


class Calls:
    """One client's requests in flight, its handshake and its subscriptions.

    Attributes:
        open: Requests without an answer, in order, by id as JSON text; without those to listen.
    """

    def __init__(self) -> None:
        self.open: dict[str, list[OpenRequest]] = {}  # a client may use an id twice
        self._listen_requests: dict[str, bytes] = {}
        self._acknowledged: set[str] = set()
        self._subscribed: dict[str, dict[str, Any]] = {}
        self._initialize_line = b""
        self._initialized_line = b""
        self._initialized = False
        self._replays = 0
        self._repeated_tokens: set[str] = set()
        self._own_prefix = f"folder-mcp/{os.urandom(8).hex()}/"  # of our own requests; no client has such an id

    def sent(self, line: bytes, message: dict[str, Any] | None = None) -> None:
        """Record a line from the client; ``message`` is what it holds, where that is known already."""
        message = _object(line) if message is None else message
        method = message.get("method")
        if not isinstance(method, str):
            return
        if "id" in message:
            key = json.dumps(message["id"])
            if method == LISTEN:
                self._listen_requests[key] = line
                return
            self.open.setdefault(key, []).append(OpenRequest(line, message))
            if method == "initialize" and not self._initialized:
                self._initialize_line = line
            self._record_subscription(message)
        elif method == "notifications/initialized":
            self._initialized_line = line
        elif method == "notifications/cancelled":
            params = message.get("params")
            if isinstance(params, dict):
                key = json.dumps(params.get("requestId"))
                self._close(key, -1)
                self._listen_requests.pop(key, None)

    def received(self, line: bytes) -> bool:
        """Record a line from the server; False when it must not reach the client."""
        message = _object(line)
        if "method" in message:
            return not self._is_repetition(message)
        if "id" not in message:
            return True
        key = json.dumps(message["id"])
        if message["id"] is not None and str(message["id"]).startswith(self._own_prefix):
            return False
        self._listen_requests.pop(key, None)
        request = self._close(key, 0)
        if request is not None and request.name == "initialize" and "result" in message:
            self._initialized = True
        return True

    def lost(self, reason: str, unsent: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Record that the server is lost. Return answers for the client, and lines for the next server, in order.

        Args:
            reason: Why, for the client.
            unsent: Lines that were never sent to it.
        """
        errors, repeated = [], []
        for key, requests in list(self.open.items()):
            for request in list(requests):
                if request.line in unsent:
                    continue
                if request.read_only and not request.repeated:
                    request.repeated = True
                    repeated.append(request.line)
                    if request.progress_token is not None:
                        self._repeated_tokens.add(json.dumps(request.progress_token))
                else:
                    self._close(key, requests.index(request))
                    errors.append(_error(json.loads(key), request, reason))
        return errors, repeated

    def unsent(self, reason: str) -> list[bytes]:
        """There is no server. Return answers for all open requests."""
        errors = [_error(json.loads(key), each, reason) for key, requests in self.open.items() for each in requests]
        self.open.clear()
        return errors

    def _close(self, key: str, which: int) -> OpenRequest | None:
        """Record that a request is answered or cancelled; return it. ``which`` of those with the same id."""
        requests = self.open.get(key)
        if not requests:
            return None
        request = requests.pop(which)
        if not requests:
            del self.open[key]
        return request

    def replay(self) -> bytes:
        """Return the handshake for a new server, empty when the client's protocol has none, or it is not finished."""
        if not self._initialized:
            return b""
        self._replays += 1
        return json.dumps({**_object(self._initialize_line), "id": self._replay_id()}).encode("ascii") + b"\n"

    def after_replay(self) -> bytes:
        """Return what follows the answer to a replayed handshake: its last line, and the subscriptions."""
        subscriptions = [
            {
                "jsonrpc": "2.0",
                "id": f"{self._own_prefix}again/{number}",
                "method": "resources/subscribe",
                "params": params,
            }
            for number, params in enumerate(self._subscribed.values())
        ]
        return self._initialized_line + b"".join(
            json.dumps(message).encode("ascii") + b"\n" for message in subscriptions
        )

    def listen_requests(self, unsent: list[bytes]) -> bytes:
        """Return the client's requests to listen, for a new server; without those in ``unsent``."""
        return b"".join(line for line in self._listen_requests.values() if line not in unsent)

    def is_replay(self, line: bytes) -> bool:
        """Whether a line answers the replayed handshake."""
        message = _object(line)
        return "method" not in message and message.get("id") == self._replay_id()

    def _replay_id(self) -> str:
        return f"{self._own_prefix}replay/{self._replays}"

    def _is_repetition(self, message: dict[str, Any]) -> bool:
        """Whether the client must not get this notification a second time.

        Progress must only grow, and that of a repeated call would begin anew. A subscription is acknowledged once.
        """
        params = message.get("params")
        if not isinstance(params, dict):
            return False
        if message["method"] == "notifications/subscriptions/acknowledged":
            meta = params.get("_meta")
            key = json.dumps(meta.get(SUBSCRIPTION)) if isinstance(meta, dict) else ""
            known = key in self._acknowledged
            self._acknowledged.add(key)
            return known
        return (
            message["method"] == "notifications/progress"
            and json.dumps(params.get("progressToken")) in self._repeated_tokens
        )

    def _record_subscription(self, message: dict[str, Any]) -> None:
        params = message.get("params")
        if not isinstance(params, dict):
            return
        if message["method"] == "resources/subscribe":
            self._subscribed[json.dumps(params.get("uri"))] = params
        elif message["method"] == "resources/unsubscribe":
            self._subscribed.pop(json.dumps(params.get("uri")), None)


def _error(identity: Any, request: OpenRequest, reason: str) -> bytes:
    if request.read_only:
        text = f"{request.name} was not answered: {reason}. It only reads: ask again."
    else:
        unknown = "It is not known whether it was done: look before you repeat it."
        text = f"{request.name} was not answered: {reason}. {unknown}"
    error = {"code": LOST, "message": text, "data": {"retryable": request.read_only, "reason": reason}}
    return json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode("ascii") + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        message = parsed(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
