"""Clients and processes: MCP, stdio, the command line. Knows nothing of LanceDB or models."""
