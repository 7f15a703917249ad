"""Chunks, search terms, language: text only, no documents and no processes."""
