"""The only place that holds an embedding model: the slot, its lock, its policy, its runtimes."""
