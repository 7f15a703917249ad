"""The index on disk. The only user of LanceDB."""
