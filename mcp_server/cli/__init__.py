"""The commands of ``folder-mcp``, a file each: its arguments, what it does, what it prints."""
