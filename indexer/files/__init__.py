"""Which files there are: walking, ignoring, watching."""
