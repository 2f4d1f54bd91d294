"""From a trained net to a version in the model repository."""
