"""Trains nets: schedule, steps, checkpoints, runs."""
