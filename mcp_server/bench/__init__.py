"""``folder-mcp bench``: how well and how fast the user's own folders answer, mode by mode, against plain grep."""
