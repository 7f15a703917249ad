"""What a file says, read in worker processes that confine themselves."""
