"""Builds the messages of control calls."""

from __future__ import annotations

from ferserve.v1 import model_service_pb2 as model_pb2


def load_request(model: str, version: int) -> model_pb2.LoadVersionRequest:
    """Build a request to load a version."""
    return model_pb2.LoadVersionRequest(name=model, version=version)


def unload_request(model: str, version: int) -> model_pb2.UnloadVersionRequest:
    """Build a request to unload a version."""
    return model_pb2.UnloadVersionRequest(name=model, version=version)


def alias_request(model: str, alias: str, version: int) -> model_pb2.SetAliasRequest:
    """Build a request to set an alias."""
    return model_pb2.SetAliasRequest(name=model, alias=alias, version=version)


def delete_alias_request(model: str, alias: str) -> model_pb2.DeleteAliasRequest:
    """Build a request to remove an alias."""
    return model_pb2.DeleteAliasRequest(name=model, alias=alias)


def promote_request(model: str, version: int | None) -> model_pb2.PromoteVersionRequest:
    """Build a request to promote the canary; None: whichever it is."""
    return model_pb2.PromoteVersionRequest(name=model, version=version or 0)


def roll_back_request(model: str, version: int | None) -> model_pb2.RollBackRequest:
    """Build a request to take a version back; None: the one that would be next."""
    return model_pb2.RollBackRequest(name=model, version=version or 0)
