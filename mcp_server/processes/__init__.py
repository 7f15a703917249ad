"""One owner, many relays: who owns the models, how the others reach it, and how it ends."""
