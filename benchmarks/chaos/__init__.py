"""Runs real servers through restarts, kills, overload and starvation."""
