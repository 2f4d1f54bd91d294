"""Reading and checking labelled faces."""
