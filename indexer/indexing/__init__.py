"""The two passes: files to searchable text, chunks to vectors."""
