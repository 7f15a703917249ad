"""The owner (background process) and its relays: how they start, find each other, speak, and end."""
