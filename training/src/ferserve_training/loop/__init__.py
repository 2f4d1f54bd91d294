"""The training loop: schedule, steps, checkpoints, runs."""
