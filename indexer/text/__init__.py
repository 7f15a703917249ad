"""What a file says: parsing, chunking, and the words the keyword index sees."""
