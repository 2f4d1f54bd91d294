"""Faces that are scored by other servers: gathered here into batches, and sent on."""
