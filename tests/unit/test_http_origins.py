"""Tests that pages of other origins may neither open streams nor make control calls."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from ferserve_server.domain.control_errors import OriginNotAllowedError
from ferserve_server.http.origins import OriginPolicy

POLICY = OriginPolicy(["https://faces.example.com"], host_name="gpu-box.lan")


def _headers(**given: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "localhost:8080"}, True),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, True),
        ({"Host": "LOCALHOST:8080", "Origin": "http://localhost:8080"}, True),
        ({"Host": "faces.example.com", "Origin": "https://faces.example.com"}, True),
        ({"Host": "10.0.0.7:8080", "Origin": "https://faces.example.com"}, True),
        ({"Host": "localhost:8080", "Origin": "http://localhost:9090"}, False),
        ({"Host": "localhost:8080", "Origin": "http://evil.example"}, False),
        ({"Host": "localhost:8080", "Origin": "null"}, False),
        ({"Host": "", "Origin": ""}, False),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080@evil.example"}, False),
        ({"Host": "localhost:8080", "Sec_Fetch_Site": "cross-site"}, False),
        ({"Host": "localhost:8080", "Sec_Fetch_Site": "same-origin"}, True),
    ],
)
def test_an_origin_is_the_servers_own_or_allowed(headers: dict[str, str], allowed: bool) -> None:
    if allowed:
        POLICY.check_origin(_headers(**headers))
        return
    with pytest.raises(OriginNotAllowedError, match="http_origins"):
        POLICY.check_origin(_headers(**headers))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8080", True),
        ("app.localhost", True),
        ("127.0.0.1:8080", True),
        ("192.168.1.20", True),
        ("[::1]:8080", True),
        ("gpu-box", True),
        ("gpu-box.lan:8080", True),
        ("faces.example.com", True),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_a_host_is_one_that_no_foreign_name_server_decides(host: str, allowed: bool) -> None:
    if allowed:
        POLICY.check_host(_headers(Host=host))
        return
    with pytest.raises(OriginNotAllowedError):
        POLICY.check_host(_headers(Host=host))
