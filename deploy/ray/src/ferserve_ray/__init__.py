"""Runs ferserve servers as replicas of Ray Serve: `deployment.application`, `discovery.addresses`."""

__version__ = "0.1.0"
