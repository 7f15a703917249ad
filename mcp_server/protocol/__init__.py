"""MCP: tools, results, resources and transport."""
