"""Training, evaluation and export of the models that ferserve serves."""
