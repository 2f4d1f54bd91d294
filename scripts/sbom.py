"""Writes a CycloneDX bill of materials (SBOM) for every lock file of `requirements/`.

A component for each package that a lock pins, with its package URL, the marker of the platforms that need it, the
SHA-256 of its files, and who requires it. Run with `make sbom`; needs the development environment.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ROOT / "requirements"

_PIN: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ \\;]+)(?: ; (?P<marker>[^\\]+?))? \\$")
_HASH: Final = re.compile(r"^    --hash=sha256:(?P<sum>[0-9a-f]{64})(?: \\)?$")
_VIA: Final = re.compile(r"^    # (?:via |  )(?P<parent>[A-Za-z0-9._-]+)(?:\[.*\])?$")


@dataclass(frozen=True, slots=True)
class Pin:
    """Represents a package of a lock file.

    Attributes:
        name: Its name.
        version: Its version.
        marker: Environment marker of the platforms that need it; "" for all.
        sums: SHA-256 of its files, in hex.
        parents: Names of the packages that require it; those of the project itself are left out.
    """

    name: str
    version: str
    marker: str
    sums: tuple[str, ...]
    parents: tuple[str, ...]


def read_lock(text: str) -> list[Pin]:
    """Parses a lock file with hashes, as `uv pip compile` writes it.

    Raises:
        ValueError: A line is of no known form, or a package has no hash.
    """
    pins: list[Pin] = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _PIN.match(line)
        if found:
            pins.append(Pin(found["name"], str(Version(found["version"])), found["marker"] or "", (), ()))
        elif pins and (found := _HASH.match(line)):
            last = pins[-1]
            pins[-1] = Pin(last.name, last.version, last.marker, (*last.sums, found["sum"]), last.parents)
        elif pins and (found := _VIA.match(line)):
            last = pins[-1]
            pins[-1] = Pin(last.name, last.version, last.marker, last.sums, (*last.parents, found["parent"]))
        elif line and not line.startswith(("#", "    #")):
            raise ValueError(f"line {number} is not understood: {line}")
    for pin in pins:
        if not pin.sums:
            raise ValueError(f"{pin.name} has no hash")
    return pins


def bill_of(name: str, text: str) -> Bom:
    """Puts the bill of materials of a lock file together. The same text gives the same components and serial."""
    pins = read_lock(text)
    components = {(pin.name, pin.marker): _component(pin) for pin in pins}
    root = Component(name=f"ferserve {name}", type=ComponentType.APPLICATION, bom_ref=f"ferserve-{name}")
    bom = Bom(
        components=components.values(),
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(text.encode()).hexdigest()),
    )
    bom.metadata.component = root
    names = {pin.name for pin in pins}
    for pin in pins:
        own = components[pin.name, pin.marker]
        parents = [each for each in pin.parents if each in names and each != pin.name]
        for (parent, _), component in components.items():
            if parent in parents:
                bom.register_dependency(component, [own])
        if not parents:
            bom.register_dependency(root, [own])
    return bom


def _component(pin: Pin) -> Component:
    url = PackageURL("pypi", None, pin.name.lower().replace("_", "-"), pin.version)
    # A package has a file for each platform, so that the sums are those of its distribution, not of the component.
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(url)),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pin.sums],
    )
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=str(url),
        external_references=[files],
        properties=[Property(name="ferserve:marker", value=pin.marker)] if pin.marker else [],
    )


def main() -> None:
    """Writes `NAME.cdx.json` for every `NAME.lock`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sbom", help="folder to write to")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for lock in sorted(LOCKS.glob("*.lock")):
        path = options.output / f"{lock.stem}.cdx.json"
        bom = bill_of(lock.stem, lock.read_text())
        path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
        print(f"{path}: {len(bom.components)} packages")


if __name__ == "__main__":
    main()
