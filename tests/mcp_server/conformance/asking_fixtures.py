"""The suite's tools that need something of the client first, and are called again with it (SEP-2322)."""

from __future__ import annotations

import json
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import InputRequiredResult


def _form(message: str, **fields: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": [*fields],
    }
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def _sample(question: str, tokens: int = 100) -> dict[str, Any]:
    messages = [{"role": "user", "content": {"type": "text", "text": question}}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": tokens}}


ROOTS = {"method": "roots/list", "params": {}}


def _ask(state: str | None = None, **requests: dict[str, Any]) -> InputRequiredResult:
    return InputRequiredResult.model_validate({"inputRequests": requests, "requestState": state})


def _given(ctx: Context, key: str) -> Any:
    """The accepted answer to one question as plain data, None when there is none that fits."""
    answer = (ctx.input_responses or {}).get(key)
    if answer is None:
        return None
    data = answer if isinstance(answer, dict) else answer.model_dump(mode="json", by_alias=True)
    if "action" in data:
        return data.get("content") if data["action"] == "accept" else None
    return data


def mount_asking(server: MCPServer[Any]) -> None:
    """Add them to a server."""
    plain = server.tool(structured_output=False)
    name_form = _form("What is your name?", name="string")

    @plain
    async def test_input_required_result_elicitation(ctx: Context) -> Any:
        """Needs a name."""
        who = _given(ctx, "user_name")
        return f"Hello, {who['name']}!" if who and isinstance(who.get("name"), str) else _ask(user_name=name_form)

    @plain
    async def test_input_required_result_sampling(ctx: Context) -> Any:
        """Needs the client's model."""
        said = _given(ctx, "capital_question")
        question = _sample("What is the capital of France?")
        return json.dumps(said["content"]) if said else _ask(capital_question=question)

    @plain
    async def test_input_required_result_list_roots(ctx: Context) -> Any:
        """Needs the client's roots."""
        roots = _given(ctx, "client_roots")
        return json.dumps(roots["roots"]) if roots else _ask(client_roots=ROOTS)

    @plain
    async def test_input_required_result_request_state(ctx: Context) -> Any:
        """Gives the client something to bring back."""
        if _given(ctx, "confirm") and ctx.request_state == "begun":
            return "state-ok"
        return _ask("begun", confirm=_form("Please confirm", ok="boolean"))

    @plain
    async def test_input_required_result_tampered_state(ctx: Context) -> Any:
        """Gives the client something it must not change; the SDK seals it."""
        if _given(ctx, "confirm") and ctx.request_state == "sealed":
            return "state-ok"
        return _ask("sealed", confirm=_form("Please confirm", ok="boolean"))

    @plain
    async def test_input_required_result_multiple_inputs(ctx: Context) -> Any:
        """Needs three things at once."""
        if ctx.request_state and all(_given(ctx, key) for key in ("user_name", "greeting", "client_roots")):
            return "everything is here"
        greeting = _sample("Generate a greeting", 50)
        return _ask("all", user_name=name_form, greeting=greeting, client_roots=ROOTS)

    @plain
    async def test_input_required_result_multi_round(ctx: Context) -> Any:
        """Needs one thing after the other."""
        if ctx.request_state == "second" and (colour := _given(ctx, "step2")):
            return f"done: {colour['color']}"
        if ctx.request_state == "first" and _given(ctx, "step1"):
            return _ask("second", step2=_form("Step 2: What is your favorite color?", color="string"))
        return _ask("first", step1=_form("Step 1: What is your name?", name="string"))

    @plain
    async def test_input_required_result_capabilities(ctx: Context) -> Any:
        """Asks only what the client can answer."""
        able = ctx.client_capabilities
        wanted: dict[str, dict[str, Any]] = {}
        if able is not None and able.sampling is not None:
            wanted["sampled"] = _sample("Say something")
        if able is not None and able.elicitation is not None:
            wanted["asked"] = name_form
        if not wanted or all(_given(ctx, key) for key in wanted):
            return "nothing more is needed"
        return _ask(**wanted)

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Context) -> Any:
        """Needs something first."""
        given = _given(ctx, "user_context")
        if given is None:
            return _ask(user_context=_form("What context should the prompt use?", context="string"))
        return f"Use this context: {given['context']}"
