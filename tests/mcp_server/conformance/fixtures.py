# ruff: noqa: N803, N815 - the names are the suite's
"""What the official conformance suite expects a server to have: tools, resources and prompts that do next to nothing.

Mounted on our own server object, so that what the suite measures is our middleware, our lifespan, our checks of
arguments and our texts of errors.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

import anyio
from asking_fixtures import mount_asking
from mcp import MCPDeprecationWarning, MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"
).decode()
PAUSE = 0.05
_TEXT = {"type": "string"}
MUCH: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _TEXT, "city": _TEXT}},
    },
    "properties": {
        "name": _TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": _TEXT,
        "email": _TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""The schema the suite looks for, with every keyword that must survive."""
MISSING_CAPABILITY = -32021


def mount(server: MCPServer[Any]) -> list[str]:
    """Add everything to a server; return the names of the tools."""
    before = {tool.name for tool in server._tool_manager.list_tools()}
    for part in (_content, _schemas, _talk, _changes, mount_asking, _resources, _prompts):
        part(server)
    return [tool.name for tool in server._tool_manager.list_tools() if tool.name not in before]


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def _content(server: MCPServer[Any]) -> None:
    plain = server.tool(structured_output=False)

    @plain
    async def test_simple_text() -> Any:
        """Text."""
        return "This is a simple text response for testing."

    @plain
    async def test_image_content() -> Any:
        """An image."""
        return ImageContent(data=PIXEL, mime_type="image/png")

    @plain
    async def test_audio_content() -> Any:
        """A sound."""
        return AudioContent(data=SILENCE, mime_type="audio/wav")

    @plain
    async def test_embedded_resource() -> Any:
        """A resource in the answer."""
        return _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")

    @plain
    async def test_multiple_content_types() -> Any:
        """Several kinds in one answer."""
        return [
            TextContent(text="Multiple content types test:"),
            ImageContent(data=PIXEL, mime_type="image/png"),
            _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]

    @plain
    async def test_error_handling() -> Any:
        """Fails."""
        raise ToolError("This tool intentionally returns an error for testing")


def _schemas(server: MCPServer[Any]) -> None:
    plain = server.tool(structured_output=False)

    @plain
    async def test_headers(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> Any:
        """Has an argument that clients repeat in a header."""
        return region

    @plain
    async def json_schema_2020_12_tool(
        name: str = "", address: Any = None, contactMethod: str = "", phone: str = "", email: str = ""
    ) -> Any:
        """Has a schema with much in it."""
        return name

    tool = server._tool_manager.get_tool("json_schema_2020_12_tool")
    assert tool is not None
    tool.parameters = MUCH


def _talk(server: MCPServer[Any]) -> None:
    plain = server.tool(structured_output=False)

    @plain
    async def test_tool_with_logging(ctx: Context) -> Any:
        """Logs three times."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
                await ctx.info(text)
                await anyio.sleep(PAUSE)
        return "logged three times"

    @plain
    async def test_tool_with_progress(ctx: Context) -> Any:
        """Reports progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"{done} of 100")
            await anyio.sleep(PAUSE)
        return "reported three times"

    @plain
    async def test_reconnection(ctx: Context) -> Any:
        """Lets go of the stream in the middle, where the transport can."""
        await ctx.close_sse_stream()
        await anyio.sleep(4 * PAUSE)
        return "still here"

    @plain
    async def test_sampling(prompt: str, ctx: Context) -> Any:
        """Asks the client's model."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            said = await ctx.session.create_message(
                messages=[SamplingMessage(role="user", content=TextContent(text=prompt))],
                max_tokens=100,
                related_request_id=ctx.request_id,
            )
        return f"LLM response: {said.content.text}"

    class Who(BaseModel):
        username: str = Field(description="User's response")
        email: str = Field(description="User's email address")

    @plain
    async def test_elicitation(message: str, ctx: Context) -> Any:
        """Asks the user."""
        return _said("User response", await ctx.elicit(message, Who))

    class Defaults(BaseModel):
        name: str = "John Doe"
        age: int = 30
        score: float = 95.5
        status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
        verified: bool = True

    @plain
    async def test_elicitation_sep1034_defaults(ctx: Context) -> Any:
        """Asks with defaults."""
        return _said("Elicitation completed", await ctx.elicit("Is this right?", Defaults))

    def titled(first: str, *others: str) -> list[dict[str, str]]:
        return [{"const": f"value{n}", "title": title} for n, title in enumerate((first, *others), 1)]

    options = ["option1", "option2", "option3"]

    class Choices(BaseModel):
        untitledSingle: str = Field(json_schema_extra={"enum": options})
        titledSingle: str = Field(json_schema_extra={"oneOf": titled("First Option", "Second Option", "Third Option")})
        legacyEnum: str = Field(
            json_schema_extra={
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            }
        )
        untitledMulti: list[str] = Field(json_schema_extra={"items": {"type": "string", "enum": options}})
        titledMulti: list[str] = Field(
            json_schema_extra={"items": {"anyOf": titled("First Choice", "Second Choice", "Third Choice")}}
        )

    @plain
    async def test_elicitation_sep1330_enums(ctx: Context) -> Any:
        """Asks with every kind of choice."""
        return _said("Elicitation completed", await ctx.elicit("Choose", Choices))


def _said(what: str, answer: Any) -> str:
    data = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"{what}: action={answer.action}, content={data}"


def _changes(server: MCPServer[Any]) -> None:
    plain = server.tool(structured_output=False)

    @plain
    async def test_trigger_tool_change(ctx: Context) -> Any:
        """Says that the tools have changed."""
        await ctx.notify_tools_changed()
        return "told"

    @plain
    async def test_trigger_prompt_change(ctx: Context) -> Any:
        """Says that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "told"

    @plain
    async def test_missing_capability(ctx: Context) -> Any:
        """Needs sampling."""
        declared = ctx.client_capabilities
        if declared is None or declared.sampling is None:
            need = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_CAPABILITY, "this tool needs the sampling capability", need)
        return "the client can sample"


def _resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """Text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource", mime_type="text/plain")
    async def watched() -> str:
        """Something to subscribe to."""
        return "This is watched."

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:
        """One of many."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """Text."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Takes two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> Any:
        """Holds a resource."""
        quoted = _embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(content=quoted), UserMessage(content="Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> Any:
        """Holds an image."""
        image = ImageContent(data=PIXEL, mime_type="image/png")
        return [UserMessage(content=image), UserMessage(content="Please analyze the image above.")]

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=values, total=len(values), has_more=False)
