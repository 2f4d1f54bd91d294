"""Engines that run a model, behind the port `domain.ports.Loader`."""
