"""Analyses folders of pictures into one table, resumable at any picture."""
