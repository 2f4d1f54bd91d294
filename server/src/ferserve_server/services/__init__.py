"""Implements the project's RPCs independently of the server that carries them."""
