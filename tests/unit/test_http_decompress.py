"""Tests compressed bodies: accepted encodings, and rejection before a body becomes large."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.http.body import decompress
from ferserve_server.services.limits import RequestLimits

LIMITS = RequestLimits(32 * 2**20, 16_384, 512, 32, 1920)
NOISE = np.random.default_rng(0).bytes(100_000)


def _raw(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _raw)],
)
def test_bodies_come_out_as_they_were(encoding: str, compress) -> None:
    assert decompress(compress(NOISE), encoding, LIMITS) == NOISE
    assert decompress(compress(b""), encoding, LIMITS) == b""


def test_a_small_body_may_have_any_ratio() -> None:
    assert decompress(gzip.compress(bytes(2**20)), "gzip", LIMITS) == bytes(2**20)


def test_thirty_kilobytes_that_become_thirty_megabytes_are_rejected_before_they_are_made() -> None:
    body = gzip.compress(bytes(30 * 2**20))
    assert len(body) < 32_000
    tracemalloc.start()
    with pytest.raises(InvalidRequestError) as caught:
        decompress(body, "gzip", LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "COMPRESSION_RATIO_TOO_HIGH"
    assert peak < 12 * 2**20


def test_the_limit_of_a_message_holds_for_what_comes_out() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decompress(gzip.compress(NOISE), "gzip", RequestLimits(50_000, 16_384, 512, 32, 1920))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("body", [gzip.compress(NOISE)[:-9], gzip.compress(NOISE) + b"more"])
def test_what_is_cut_short_or_goes_on_is_rejected(body: bytes) -> None:
    with pytest.raises(ValueError, match="cut short"):
        decompress(body, "gzip", LIMITS)


def test_what_is_no_gzip_is_rejected() -> None:
    with pytest.raises(zlib.error):
        decompress(b"no gzip at all", "gzip", LIMITS)
