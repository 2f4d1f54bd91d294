"""The dynamic batcher: groups the crops of all callers into batches."""
