"""Tests that one parser reads the addresses of gRPC, HTTP, metrics and control calls."""

from __future__ import annotations

import pytest

from ferserve_server.runtime.addresses import (
    HostPort,
    ListenError,
    UnixPath,
    is_ip_address,
    parse_address,
    sibling_address,
)


@pytest.mark.parametrize(
    ("text", "host", "port", "written", "loopback"),
    [
        ("0.0.0.0:50051", "0.0.0.0", 50051, "0.0.0.0:50051", False),
        (":8080", "", 8080, "0.0.0.0:8080", False),
        ("8080", "", 8080, "0.0.0.0:8080", False),
        ("[::]:8080", "::", 8080, "[::]:8080", False),
        ("[::1]:8080", "::1", 8080, "[::1]:8080", True),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80", False),
        ("127.0.0.1:0", "127.0.0.1", 0, "127.0.0.1:0", True),
        ("127.3.2.1:65535", "127.3.2.1", 65535, "127.3.2.1:65535", True),
        ("localhost:9464", "localhost", 9464, "localhost:9464", True),
        ("my_service.internal:80", "my_service.internal", 80, "my_service.internal:80", False),
    ],
)
def test_every_form_has_one_meaning(text: str, host: str, port: int, written: str, loopback: bool) -> None:
    address = parse_address(text)
    assert address == HostPort(host, port)
    assert (str(address), address.is_loopback) == (written, loopback)


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "unix:///run/x.sock"])
def test_a_socket_file_is_known_by_its_prefix(text: str) -> None:
    address = parse_address(text)
    assert isinstance(address, UnixPath)
    assert (str(address), address.is_loopback) == ("unix:/run/x.sock", True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1:70000", "0 to 65535"),
        ("127.0.0.1:-5", "0 to 65535"),
        ("127.0.0.1:-65530", "0 to 65535"),
        ("127.0.0.1:http", "0 to 65535"),
        ("127.0.0.1:", "0 to 65535"),
        ("127.0.0.1:٣", "0 to 65535"),
        ("127.0.0.1: 80", "0 to 65535"),
        ("nonsense", "0 to 65535"),
        ("", "0 to 65535"),
        ("::1:50051", "brackets"),
        ("[::1]", "brackets"),
        ("[127.0.0.1]:80", "brackets"),
        ("[nonsense]:80", "brackets"),
        ("[::1:80", "brackets"),
        ("999.0.0.1:80", "IPv4"),
        ("http://localhost:80", "brackets"),
        ("-x:80", "name of a host"),
        ("a b:80", "name of a host"),
        ("unix:", "path"),
        ("unix:/", "path"),
    ],
)
def test_what_is_no_address_is_reported_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "main", "found"),
    [
        ("8080", "0.0.0.0:50051", "0.0.0.0:8080"),
        ("8080", "127.0.0.1:50051", "127.0.0.1:8080"),
        ("8080", "[::1]:50051", "[::1]:8080"),
        ("8080", "localhost:0", "localhost:8080"),
        ("8080", "unix:/run/x.sock", "127.0.0.1:8080"),
        (":8080", "127.0.0.1:50051", "0.0.0.0:8080"),
        ("10.0.0.1:8080", "127.0.0.1:50051", "10.0.0.1:8080"),
        ("unix:/run/http.sock", "127.0.0.1:50051", "unix:/run/http.sock"),
    ],
)
def test_a_bare_port_follows_the_host_of_the_main_address(text: str, main: str, found: str) -> None:
    assert sibling_address(text, main, "--http-listen") == found


def test_errors_name_the_flag_at_fault() -> None:
    with pytest.raises(ListenError, match="--http-listen"):
        sibling_address("70000", "127.0.0.1:1", "--http-listen")
    with pytest.raises(ListenError, match="--listen"):
        sibling_address("8080", "nonsense", "--http-listen")


def test_addresses_are_distinguished_from_names() -> None:
    assert [is_ip_address(each) for each in ("::1", "127.0.0.1", "localhost", "")] == [True, True, False, False]
