"""Defines `ferserve-train sign`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import VersionArgument


def sign(
    version: VersionArgument,
    *,
    key: Annotated[
        Path,
        typer.Option(
            metavar="PEM",
            help="Private key on P-256, P-384 or P-521; FERSERVE_SIGNING_PASSPHRASE is that of an encrypted one.",
        ),
    ],
) -> None:
    """Sign an exported version, for servers with the public key (OpenSSF Model Signing)."""
    # Few use it, and it imports a library that no other command needs.
    from ferserve_training.export.sign import read_private_key, sign_version  # noqa: PLC0415

    signature = sign_version(version, read_private_key(key, os.environ.get("FERSERVE_SIGNING_PASSPHRASE")))
    Console(soft_wrap=True).print(f"signed {signature}")
