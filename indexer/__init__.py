"""Files to chunks and vectors, queries to results; knows nothing of MCP. The map is docs/architecture.md."""
