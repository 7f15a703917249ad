"""What stands between a client's call and the tool: arguments checked and named kindly, errors without noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolRequestParams, CallToolResult, TextContent
from pydantic import ValidationError

from mcp_server import arguments


class Forgiving(Extension):
    """Checks the arguments of every call before the tool sees them, in both protocol eras."""

    identifier = "io.github.folder-mcp/forgiving-arguments"

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Refuse wrong arguments with a sentence that leads to right ones; take the SDK's prefix off errors."""
        tool = self._tools.get(params.name)
        if tool is None:
            return _error(f"There is no tool {params.name[:60]!r}; the tools are {', '.join(self._tools)}.")
        given = params.arguments or {}
        wrong = arguments.unknown(tool.parameters, given)
        if wrong:
            return _error(f"{tool.name}: {wrong}")
        params.arguments = arguments.mended(tool.parameters, given)
        try:
            tool.fn_metadata.validate_arguments(params.arguments)
        except ValidationError as error:
            return _error(f"{tool.name}: {arguments.complaint(tool.parameters, error)}")
        return _plain(await call_next(ctx), f"Error executing tool {tool.name}: ")


def _plain(result: HandlerResult, prefix: str) -> HandlerResult:
    if isinstance(result, CallToolResult) and result.is_error:
        for part in result.content:
            if isinstance(part, TextContent):
                part.text = part.text.removeprefix(prefix)
    return result


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
