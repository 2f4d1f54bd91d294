"""Runs several worker processes beside the primary one."""
