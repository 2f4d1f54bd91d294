"""Runs models in inference engines, behind the port `domain.ports.Loader`."""
