"""Trains, evaluates and exports the models that ferserve serves."""
