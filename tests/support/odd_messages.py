"""JSON-RPC messages as no client should send them, and what each must be answered with. For hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates and control characters too
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["null", "None", "\ud800", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
METHODS = st.sampled_from(
    ["ping", "tools/list", "tools/call", "resources/read", "resources/list", "resources/subscribe", "prompts/get",
     "completion/complete", "logging/setLevel", "server/discover", "initialize", "notifications/initialized",
     "notifications/progress", "no/such/method", "rpc.discover", "", "\ud800", "tools/call\x00"]
)  # fmt: skip
ARGUMENTS = st.dictionaries(
    st.sampled_from(["query", "path", "locator", "top_k", "offset", "folders", "path_glob", "modified_after", "mode",
                     "file_types", "context", "max_chars", "verbose", "\ud800"]),
    VALUES,
    max_size=5,
)  # fmt: skip
CALLS = st.fixed_dictionaries(
    {"name": st.sampled_from(["search", "read", "status", "no such tool"]), "arguments": ARGUMENTS},
    optional={"_meta": VALUES | st.just({"progressToken": "\ud800"}) | st.just({"progressToken": 1})},
)
PARAMS = VALUES | CALLS | st.fixed_dictionaries({"uri": TEXT}) | st.fixed_dictionaries({"_meta": VALUES})


@st.composite
def requests(draw: st.DrawFn, *, modern: bool) -> dict[str, Any]:
    """A request, without its id."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": draw(METHODS), "params": draw(PARAMS)}
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(["jsonrpc", "method", "params"]))
        if draw(st.booleans()):
            del message[key]
        else:
            message[key] = draw(VALUES)
    if modern and isinstance(message.get("params"), dict) and draw(st.booleans()):
        message["params"]["_meta"] = MODERN
    return message


STRAY = st.one_of(
    VALUES.map(json.dumps),
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")),
    st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "id": VALUES, "result": VALUES}).map(json.dumps),
    st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "id": VALUES, "error": VALUES}).map(json.dumps),
    st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "method": METHODS, "params": PARAMS}).map(json.dumps),
    st.sampled_from(["[" * 100_000, '{"a":' * 50_000, "[]", "[[]]", "[1, 2]", "", " ", "\ufeff", "NaN", "{", '"']),
).map(lambda text: text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
"""Lines without an id that must be answered with it."""


def expects_no_result(message: dict[str, Any]) -> bool:
    """Whether a message with an id is a response, as far as JSON-RPC sees: those are never answered."""
    return "method" not in message and ("result" in message or "error" in message)
