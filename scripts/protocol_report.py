"""Runs the suites of the protocols at both servers, and writes their results into docs/protocol.md.

Run with `make protocol-report`; it takes two minutes. Tests that a tool is missing for count as skipped.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "protocol.md"
SERVERS: Final = ("native", "grpcio")

SUITES: Final = {
    "test_rfc9113_frames": "RFC 9113: frames (3, 4, 6, 7)",
    "test_rfc9113_streams": "RFC 9113: streams and windows (5, 6.9)",
    "test_rfc9113_requests": "RFC 9113: requests (8)",
    "test_rfc7541": "RFC 7541: header compression",
    "test_grpc_protocol": "gRPC over HTTP/2",
    "test_http2": "HTTP/2, byte by byte",
    "test_grpc_peers": "calls of a strict HTTP/2 library (`h2`)",
    "test_abuse": "floods and bombs",
    "test_bounds": "bounds",
    "test_connection_bounds": "bounds",
    "test_flow_control": "flow control",
    "test_fuzz": "fuzz: mutated exchanges",
    "test_http2_tools": "curl, nghttp, h2load",
    "test_grpc_interop": "interoperability cases: {}",
}
"""Titles of the suites, by file; `{}` is the client."""

_CLIENTS: Final = ("grpcio", "grpclib", "grpc-js", "connect-node", "grpc-go", "grpc-cpp")


@dataclass
class Result:
    """Counts the tests of a suite at a server.

    Attributes:
        passed: Passed tests.
        deviations: Names of known failures, by their reasons.
        failed: Names of other failures.
        skipped: Skipped tests.
    """

    passed: int = 0
    deviations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    skipped: int = 0

    def __str__(self) -> str:
        known = sum(map(len, self.deviations.values()))
        parts = [f"{self.passed} of {self.passed + known + len(self.failed)}"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)


def run_suites() -> ET.Element:
    """Runs the suites; returns their results as JUnit writes them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        files = [*sorted(ROOT.glob("tests/protocol/test_*.py"))]
        files = [path for path in files if path.stem in SUITES]
        files += [ROOT / "tests/conformance" / f"{name}.py" for name in ("test_grpc_interop", "test_http2_tools")]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junitxml={report}", *map(str, files)]
        subprocess.run(command, cwd=ROOT, check=False)
        return ET.parse(report).getroot()  # noqa: S314 - our own file


def collect(report: ET.Element) -> dict[tuple[str, str], Result]:
    """Sorts test cases by suite and server."""
    results: dict[tuple[str, str], Result] = defaultdict(Result)
    for case in report.iter("testcase"):
        module = str(case.get("classname")).rpartition(".")[2]
        name = str(case.get("name"))
        parameters = (re.findall(r"\[(.*)\]$", name) or [""])[0]
        server = next((each for each in SERVERS if re.match(rf"{each}(-|$)", parameters)), "native")
        rule = parameters.removeprefix(f"{server}-")
        client = next((each for each in _CLIENTS if rule.startswith(f"{each}-")), "")
        result = results[SUITES[module].format(client), server]
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(rule or name)
        elif skipped is not None and skipped.get("type") == "pytest.xfail":
            result.deviations[str(skipped.get("message"))].append(rule if module in _RULES else name)
        elif skipped is not None:
            result.skipped += 1
        else:
            result.passed += 1
    return results


_RULES: Final = {name for name in SUITES if "rfc" in name or name == "test_grpc_protocol"}


def tables(results: dict[tuple[str, str], Result]) -> str:
    """Writes the tables of the page."""
    lines = ["| suite | native | grpcio |", "|---|---|---|"]
    for title in dict.fromkeys(title for title, _ in results):
        cells = [str(results[title, server]) if (title, server) in results else "" for server in SERVERS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| server | what it does otherwise | tests |", "|---|---|---|"]
    for server in SERVERS:
        for (_, of), result in results.items():
            if of == server:
                for reason, names in result.deviations.items():
                    lines.append(f"| {server} | {reason} | {'; '.join(names)} |")
                lines += [f"| {server} | fails | {name} |" for name in result.failed]
    return "\n".join(lines)


def main() -> int:
    """Runs everything, and writes the page; returns 1 if a test failed that is not a known deviation."""
    results = collect(run_suites())
    text = PAGE.read_text()
    start, end = "<!-- results -->\n", "\n<!-- end of results -->"
    before, rest = text.split(start)
    PAGE.write_text(before + start + tables(results) + end + rest.split(end)[1])
    return int(any(result.failed for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
