"""Describes nets and builds their trainable and their folded form."""
