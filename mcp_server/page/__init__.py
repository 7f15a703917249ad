"""The local page: a view of the owner in a browser of the same machine."""
