"""The MCP clients of this machine: where each keeps its servers, what we write there, and whether it then works."""
