"""Scores faces on other servers: assembles batches here and sends them on."""
