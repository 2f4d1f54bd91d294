"""What models there are, and which versions of them are in force."""
