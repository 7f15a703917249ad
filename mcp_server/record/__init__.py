"""The record: which files were shown, when and to whom; one line of JSON an answer."""
