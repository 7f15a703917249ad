"""The live view of the status in a terminal."""
