"""What a client and its server have said to each other, as far as a new server must know it. Pure bookkeeping.

Standard library only. Requests and answers are JSON-RPC lines. When a server is lost, calls that only read are asked
again, once; of anything else it cannot be known whether it was done, and the client is told so.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READING_TOOLS = frozenset({"search", "read", "status"})
READING = frozenset(
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
"""Methods that change nothing, or nothing that asking twice would change twice."""
LISTEN = "subscriptions/listen"
"""A request that stays without an answer for as long as the client listens: asked again of every server."""
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
"""Where a notice says which request to listen it belongs to."""
OWN = "folder-mcp/"
"""What the ids of our own requests begin with."""
LOST = -32002
"""Error code of a call that a server took with it. (-32000 and -32001 are the SDK's.)"""


class Asked:
    """A request without an answer yet.

    Attributes:
        line: The client's line.
        what: Method, and tool if it is a call of one.
        reads: Whether it may be asked again.
        again: Whether it has been.
    """

    __slots__ = ("again", "line", "reads", "token", "what")

    def __init__(self, line: bytes, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params")
        params = params if isinstance(params, dict) else {}
        tool = params.get("name") if method == "tools/call" else None
        meta = params.get("_meta")
        self.line = line
        self.what = f"{method} {tool}" if tool else str(method)
        self.reads = tool in READING_TOOLS if method == "tools/call" else method in READING
        self.token = meta.get("progressToken") if isinstance(meta, dict) else None
        self.again = False


class Calls:
    """One client's requests in flight, and its handshake.

    Attributes:
        open: Requests without an answer, by id as JSON text; not those by which the client listens.
    """

    def __init__(self) -> None:
        self.open: dict[str, Asked] = {}
        self._listening: dict[str, bytes] = {}
        self._heard: set[str] = set()
        self._subscribed: dict[str, dict[str, Any]] = {}
        self._hello = b""
        self._greeted = b""
        self._answered = False
        self._replays = 0
        self._told: set[str] = set()

    def sent(self, line: bytes) -> None:
        """Take note of a line from the client."""
        message = _object(line)
        method = message.get("method")
        if not isinstance(method, str):
            return
        if "id" in message:
            if method == LISTEN:
                self._listening[json.dumps(message["id"])] = line
                return
            self.open[json.dumps(message["id"])] = Asked(line, message)
            if method == "initialize" and not self._answered:
                self._hello = line
            self._note_subscription(message)
        elif method == "notifications/initialized":
            self._greeted = line
        elif method == "notifications/cancelled":
            params = message.get("params")
            if isinstance(params, dict):
                key = json.dumps(params.get("requestId"))
                self.open.pop(key, None)
                self._listening.pop(key, None)

    def received(self, line: bytes) -> bool:
        """Take note of a line from the server; False when it is not the client's business."""
        message = _object(line)
        if "method" in message:
            return not self._repeats(message)
        if "id" not in message:
            return True
        key = json.dumps(message["id"])
        if str(message["id"]).startswith(OWN):
            return False
        self._listening.pop(key, None)
        asked = self.open.pop(key, None)
        if asked is not None and asked.what == "initialize" and "result" in message:
            self._answered = True
        return True

    def lost(self, reason: str, unsent: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The server is gone. Return answers for the client, and lines for the next server, in order.

        Args:
            reason: What became of it.
            unsent: Lines it was never sent: nothing happened to them.
        """
        errors, again = [], []
        for key, asked in list(self.open.items()):
            if asked.line in unsent:
                continue
            if asked.reads and not asked.again:
                asked.again = True
                again.append(asked.line)
                if asked.token is not None:
                    self._told.add(json.dumps(asked.token))
            else:
                del self.open[key]
                errors.append(_error(json.loads(key), asked, reason))
        return errors, again

    def unsent(self, reason: str) -> list[bytes]:
        """No server can be had. Return answers for everything open."""
        errors = [_error(json.loads(key), asked, reason) for key, asked in self.open.items()]
        self.open.clear()
        return errors

    def replay(self) -> bytes:
        """Return the handshake for a new server, empty when the client's protocol has none (or is still at it)."""
        if not self._answered:
            return b""
        self._replays += 1
        return json.dumps({**_object(self._hello), "id": self._replay_id()}).encode("ascii") + b"\n"

    def after_replay(self) -> bytes:
        """Return what follows the answer to a replayed handshake: its end, and the subscriptions."""
        again = [
            {"jsonrpc": "2.0", "id": f"{OWN}again/{number}", "method": "resources/subscribe", "params": params}
            for number, params in enumerate(self._subscribed.values())
        ]
        return self._greeted + b"".join(json.dumps(message).encode("ascii") + b"\n" for message in again)

    def listening(self, unsent: list[bytes]) -> bytes:
        """Return the requests by which the client listens, for a new server; not those in ``unsent``."""
        return b"".join(line for line in self._listening.values() if line not in unsent)

    def is_replay(self, line: bytes) -> bool:
        """Whether a line answers the replayed handshake."""
        message = _object(line)
        return "method" not in message and message.get("id") == self._replay_id()

    def _replay_id(self) -> str:
        return f"{OWN}replay/{self._replays}"

    def _repeats(self, message: dict[str, Any]) -> bool:
        """Whether the client has this already.

        Progress of a call that was asked again would begin anew, and must only grow; that it is listened to is told
        a client once.
        """
        params = message.get("params")
        if not isinstance(params, dict):
            return False
        if message["method"] == "notifications/subscriptions/acknowledged":
            meta = params.get("_meta")
            key = json.dumps(meta.get(SUBSCRIPTION)) if isinstance(meta, dict) else ""
            known = key in self._heard
            self._heard.add(key)
            return known
        return message["method"] == "notifications/progress" and json.dumps(params.get("progressToken")) in self._told

    def _note_subscription(self, message: dict[str, Any]) -> None:
        params = message.get("params")
        if not isinstance(params, dict):
            return
        if message["method"] == "resources/subscribe":
            self._subscribed[json.dumps(params.get("uri"))] = params
        elif message["method"] == "resources/unsubscribe":
            self._subscribed.pop(json.dumps(params.get("uri")), None)


def _error(identity: Any, asked: Asked, reason: str) -> bytes:
    if asked.reads:
        text = f"{asked.what} was not answered: {reason}. It only reads: ask again."
    else:
        text = (
            f"{asked.what} was not answered: {reason}. It is not known whether it was done: look before you repeat it."
        )
    error = {"code": LOST, "message": text, "data": {"retryable": asked.reads, "reason": reason}}
    return json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode("ascii") + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
