"""MCP over streamable HTTP within bounds: sessions, event streams, bodies; and an answer to every request with an id.

Wraps the SDK's application, which has bounds of its own (30 minutes, 10,000 sessions, then 503 for everybody) and
answers malformed requests with an error whose id is null. Requests come here after their token has been checked.
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator, MutableMapping
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import anyio
from mcp.server.auth.provider import principal_components
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_server.processes.relay_calls import LISTEN
from mcp_server.protocol.lines import INVALID_REQUEST, TooLong, encoded, error, read_line

SESSION_IDLE_S = 30 * 60.0
"""Seconds without a request, and without an open event stream, after which a session ends: its id is then unknown
(404), and clients begin a new one."""
MAX_SESSIONS = 1000
"""Sessions at a time; when another is opened, one of the user who has most ends, the one used longest ago."""
MAX_LISTENING = 256
"""Event streams of ``subscriptions/listen`` at a time; when another begins, the oldest of the user who has most ends,
unless that is the one who asks. Those of GET are at most one a session."""
OPENING = 4
"""Sessions that are opened at the same time: requests of open ones need not wait behind hundreds that begin."""
BODY_S = 20.0
"""Seconds in which the body of a request must arrive."""
MAX_BODY = 4 * 1024 * 1024
"""Bytes of a body."""

SESSION_HEADER, VERSION_HEADER = b"mcp-session-id", b"mcp-protocol-version"

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def session_application(server: Server[Any], security: TransportSecuritySettings) -> App:
    """Return the application that serves MCP over streamable HTTP.

    Args:
        server: The low-level server.
        security: Which values the Host and Origin headers may have.
    """
    inner = server.streamable_http_app(
        transport_security=security,
        session_idle_timeout=SESSION_IDLE_S,
        max_sessions=MAX_SESSIONS + OPENING,
        max_request_body_size=MAX_BODY,
    )
    return BoundedSessions(inner)


@dataclass(slots=True)
class _Session:
    """One open session.

    Attributes:
        scope: Of the request that opened it: the identity that may close it.
        used_at: When it was last used; ``time.monotonic``.
        in_flight: Ids of its requests without an answer, as text: the SDK takes 7 and "7" for the same.
    """

    scope: Scope
    used_at: float
    in_flight: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Listening:
    """One event stream of ``subscriptions/listen``.

    Attributes:
        user: Whose it is.
        serving: Cancelled to end it.
    """

    user: Hashable
    serving: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class BoundedSessions:
    """An ASGI application around the SDK's."""

    def __init__(self, inner: App, *, max_sessions: int = MAX_SESSIONS, max_listening: int = MAX_LISTENING) -> None:
        """Wrap an application.

        Args:
            inner: The SDK's.
            max_sessions: Bound of sessions.
            max_listening: Bound of ``subscriptions/listen``.
        """
        self._inner = inner
        self._max_sessions = max_sessions
        self._max_listening = max_listening
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # the one used longest ago first
        self._listening: dict[_Listening, None] = {}  # the oldest first
        self._opening: anyio.Semaphore | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._pass_on(scope, receive, send, None)
            return
        body = await _body(receive)
        if body is None:
            text = f"the body did not arrive within {BODY_S:.0f} s"
            await _answer(send, HTTPStatus.REQUEST_TIMEOUT, error(None, INVALID_REQUEST, text))
            return
        if isinstance(body, TooLong):
            problem = {**read_line(body)[1][0]}
            problem["error"]["message"] = f"the message is longer than {MAX_BODY >> 20} MiB; ask for less at a time"
            await _answer(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
            return
        messages, problems = read_line(body)
        if body.lstrip()[:1] == b"[":
            text = "a batch is not accepted over HTTP; send each message as a request of its own"
            refused = [error(each["id"], INVALID_REQUEST, text) for each in messages if "id" in each]
            problems = [*problems, *refused] or [error(None, INVALID_REQUEST, text)]
            await _answer(send, HTTPStatus.BAD_REQUEST, problems if len(problems) > 1 else problems[0])
        elif not messages:
            problem = problems[0] if problems else error(None, INVALID_REQUEST, "this is no message of JSON-RPC")
            await _answer(send, HTTPStatus.BAD_REQUEST, problem)
        else:
            await self._pass_on(*_with_body(scope, receive, encoded(messages[0])), send, messages[0])

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, message: dict[str, Any] | None) -> None:
        """Have the SDK serve a request; ``message`` is what it holds, None for GET and DELETE."""
        identity = message.get("id") if message is not None and "method" in message else None
        session_id = _header(scope, SESSION_HEADER).decode("latin-1")
        session = self._session_of(scope, session_id)
        listens = message is not None and message.get("method") == LISTEN
        if session is not None and identity is not None and str(identity) in session.in_flight:
            text = f"the id {identity!r} belongs to a request that is not answered yet; use another one"
            await _answer(send, HTTPStatus.BAD_REQUEST, error(identity, INVALID_REQUEST, text))
            return
        stream = _Listening(_principal(scope)) if listens else None
        if stream is not None and not self._may_listen(stream.user):
            await self._refuse_stream(send, identity)
            return
        opens = not session_id and _is_handshake_era(scope)
        opener = {**scope, "method": "DELETE"} if opens else None
        answered = _Answered(send, identity)
        async with AsyncExitStack() as stack:
            if opens:
                await stack.enter_async_context(self._opening_limit())
                await self._make_space(_principal(scope))
            stack.enter_context(self._used(session_id, session, identity, stream))
            with stream.serving if stream is not None else nullcontext():
                await self._inner(scope, receive, answered)
        if stream is not None and stream.serving.cancelled_caught:
            await self._end_stream(answered, send, identity)
        if opener is not None and answered.session_id and answered.status == HTTPStatus.OK:
            self._sessions[answered.session_id] = _Session(opener, time.monotonic())
        elif session is not None and (
            answered.status == HTTPStatus.NOT_FOUND
            or (scope["method"] == "DELETE" and answered.status == HTTPStatus.OK)
        ):
            self._sessions.pop(session_id, None)

    def _session_of(self, scope: Scope, session_id: str) -> _Session | None:
        """Return the session that a request names; None if it is another user's: nothing of it is told or changed."""
        session = self._sessions.get(session_id)
        return session if session is not None and _principal(scope) == _principal(session.scope) else None

    @contextmanager
    def _used(
        self, session_id: str, session: _Session | None, identity: str | int | None, stream: _Listening | None
    ) -> Iterator[None]:
        """Record that a request is served."""
        if stream is not None:
            self._listening[stream] = None
        if session is not None:
            session.used_at = time.monotonic()
            if session_id in self._sessions:
                self._sessions.move_to_end(session_id)
            if identity is not None:
                session.in_flight.add(str(identity))
        try:
            yield
        finally:
            if stream is not None:
                self._listening.pop(stream, None)
            if session is not None and identity is not None:
                session.in_flight.discard(str(identity))

    def _may_listen(self, user: Hashable) -> bool:
        """Whether a user may have another event stream; where all are taken, the oldest of who has more ends."""
        if len(self._listening) < self._max_listening:
            return True
        counts = Counter(each.user for each in self._listening)
        oldest = max(self._listening, key=lambda each: counts[each.user], default=None)  # the first of equals
        if oldest is None or counts[oldest.user] <= counts[user] + 1:
            return False
        del self._listening[oldest]
        oldest.serving.cancel()
        return True

    async def _end_stream(self, answered: _Answered, send: Send, identity: str | int | None) -> None:
        """End an event stream whose place another user has; its client may ask again."""
        if answered.status:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._refuse_stream(send, identity)

    async def _refuse_stream(self, send: Send, identity: str | int | None) -> None:
        text = f"{self._max_listening} event streams are open already; ask again later, or read the status instead"
        await _answer(send, HTTPStatus.SERVICE_UNAVAILABLE, error(identity, INVALID_REQUEST, text))

    def _opening_limit(self) -> anyio.Semaphore:
        if self._opening is None:  # not before there is an event loop
            self._opening = anyio.Semaphore(OPENING)
        return self._opening

    async def _make_space(self, user: Hashable) -> None:
        """End sessions until a user may have another: of the user who has most, the one longest without a call."""
        while len(self._sessions) >= self._max_sessions:
            counts = Counter(_principal(each.scope) for each in self._sessions.values())
            most = max(counts.values())
            theirs = [name for name, each in self._sessions.items() if counts[_principal(each.scope)] == most]
            oldest = next((name for name in theirs if not self._sessions[name].in_flight), None)
            if oldest is None and most > counts[user]:
                oldest = theirs[0]  # who keeps all of many sessions busy keeps nobody else out
            if oldest is None:
                return  # the SDK refuses another
            session = self._sessions.pop(oldest)
            names = [(name, value) for name, value in session.scope["headers"] if name in (b"host", b"origin")]
            scope = {**session.scope, "headers": [*names, (SESSION_HEADER, oldest.encode("latin-1"))]}
            await self._inner(scope, _nothing_more, _ignore)


class _Answered:
    """Passes a response on; an error gets the id of its request.

    Attributes:
        status: Of the response, 0 before it has begun.
        session_id: That the response names.
    """

    def __init__(self, send: Send, identity: str | int | None) -> None:
        self._send = send
        self._identity = identity
        self._held: AsgiMessage | None = None
        self._body = b""
        self.status = 0
        self.session_id = ""

    async def __call__(self, message: AsgiMessage) -> None:
        """Take a message of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.session_id = _header(message, SESSION_HEADER).decode("latin-1")
            if self.status >= HTTPStatus.BAD_REQUEST and self._identity is not None:
                self._held = message
                return
        if self._held is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            kept = [each for each in self._held["headers"] if each[0] not in (b"content-type", b"content-length")]
            await _answer(self._send, self.status, self._document(), kept)

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(self._body)
        except ValueError:
            document = None
        if isinstance(document, dict) and "error" in document:
            return {**document, "id": self._identity}
        text = self._body.decode("utf-8", "replace").strip() or HTTPStatus(self.status).phrase
        return error(self._identity, INVALID_REQUEST, text)


async def _body(receive: Receive) -> bytes | TooLong | None:
    """Return the body of a request, None if it does not arrive in time, its beginning if it is too long."""
    parts: list[bytes] = []
    size = 0
    with anyio.move_on_after(BODY_S):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None  # the client has gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > MAX_BODY:
                return TooLong(b"".join(parts)[:MAX_BODY], b"")
            if not message.get("more_body", False):
                return b"".join(parts)
    return None


def _with_body(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """Return a request with another body, which is there as a whole."""
    headers = [
        (name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")
    ]
    whole: list[AsgiMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> AsgiMessage:
        return whole.pop() if whole else await receive()

    return {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}, next_message


def _principal(scope: Scope) -> Hashable:
    """Whose a request is, None where no token is asked for."""
    token = getattr(scope.get("user"), "access_token", None)
    return None if token is None else principal_components(token)


def _is_handshake_era(scope: Scope) -> bool:
    version = _header(scope, VERSION_HEADER).decode("latin-1")
    return not version or version in HANDSHAKE_PROTOCOL_VERSIONS


def _header(message: Scope, name: bytes) -> bytes:
    return next((value for key, value in message.get("headers", ()) if key.lower() == name), b"")


async def _nothing_more() -> AsgiMessage:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(_: AsgiMessage) -> None:
    return


async def _answer(send: Send, status: int, document: Any, headers: list[tuple[bytes, bytes]] | tuple[()] = ()) -> None:
    body = encoded(document)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": int(status), "headers": head})
    await send({"type": "http.response.body", "body": body})
