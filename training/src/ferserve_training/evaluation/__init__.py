"""How good a net is, how sure one can be of that, and how honest its probabilities are."""
