"""The folders that are indexed."""
