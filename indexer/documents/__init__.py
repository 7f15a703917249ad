"""What a file says, read in processes of its own."""
