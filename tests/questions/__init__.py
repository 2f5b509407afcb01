"""Fixed questions to every command, to compare the answers of two versions of the program."""
