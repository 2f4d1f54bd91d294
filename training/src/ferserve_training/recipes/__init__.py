"""Named ways to train a net."""
