"""Serves REST and pages over HTTP."""
