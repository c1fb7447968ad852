"""Writes the software bill of materials of the image as CycloneDX JSON.

Usage: .venv-tools/bin/python -m scripts.sbom [--architectures amd64,arm64] [--folder build]

It lists the Debian packages, the Python packages and Python itself, with hashes and licenses, and
checks the result against the schema. The same inputs give the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import uuid
import zipfile
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.hash.factories import HashTypeFactory
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.image import build as image_build
from scripts.image.wheels import RUNTIME_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from email.message import Message

    from cyclonedx.model.license import License

    from scripts.image.debian import Package

_HASHES = HashTypeFactory()
_LICENSES = LicenseFactory()
_KEYFERRY_LICENSE = _LICENSES.make_with_id("Apache-2.0")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m scripts.sbom", description=__doc__)
    parser.add_argument("--architectures", default=image_build.native_architecture())
    parser.add_argument("--folder", default="build", help="where to write keyferry-ARCH.cdx.json")
    parser.add_argument("--newer", action="store_true", help="as in python -m scripts.image build")
    options = parser.parse_args()
    builder = image_build.Build(image_build.default_cache(), newer=options.newer)
    for architecture in options.architectures.split(","):
        bom = bill_of_materials(builder, architecture)
        text = JsonV1Dot6(bom).output_as_string(indent=2)
        if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
            sys.exit(f"The bill of materials does not conform to the CycloneDX schema: {error}")
        path = Path(options.folder, f"keyferry-{architecture}.cdx.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        print(f"{path}  {len(bom.components)} components")


def bill_of_materials(builder: image_build.Build, architecture: str) -> Bom:
    """Describe the image of one architecture."""
    with builder.locked():
        files = builder.packages(architecture)
        wheels = builder.wheels(RUNTIME_LOCK, architecture)
    debian = [debian_component(*each) for each in files]
    described = [(wheel, metadata_of(wheel)) for wheel in wheels]
    libraries = {name_of(text): wheel_component(wheel, text) for wheel, text in described}
    image, product = _image(architecture), _product()
    python = _python({package.name: package for package, _ in files})
    bom = Bom(components=[product, python, *debian, *libraries.values()])
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromtimestamp(image_build.source_epoch(), UTC)
    bom.register_dependency(image, [product, python, *debian])
    bom.register_dependency(product, [python, *libraries.values()])
    for _, text in described:
        needed = [libraries[each] for each in needs(text) if each in libraries]
        bom.register_dependency(libraries[name_of(text)], needed)
    contents = "".join(f"{each.purl} {each.hashes}" for each in bom.components)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{image_build.revision()} {contents}")
    return bom


def _image(architecture: str) -> Component:
    found = {"source": image_build.source_repository(), "revision": image_build.revision()}
    return Component(
        type=ComponentType.CONTAINER,
        name="keyferry",
        version=image_build.version(),
        bom_ref="image",
        purl=PackageURL("oci", None, "keyferry", None, {"arch": architecture}),
        licenses=[_KEYFERRY_LICENSE],
        properties=[
            Property(name=f"org.opencontainers.image.{name}", value=text)
            for name, text in found.items()
            if text
        ],
    )


def _product() -> Component:
    purl = PackageURL("pypi", None, "keyferry", image_build.version())
    return Component(
        type=ComponentType.APPLICATION,
        name="keyferry",
        version=image_build.version(),
        bom_ref=str(purl),
        purl=purl,
        licenses=[_KEYFERRY_LICENSE],
    )


def _python(packages: dict[str, Package]) -> Component:
    version = packages["python3.11-minimal"].version.partition("-")[0]
    return Component(
        type=ComponentType.PLATFORM,
        name="python",
        version=version,
        bom_ref=f"python@{version}",
        cpe=f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
        licenses=[_LICENSES.make_with_id("PSF-2.0")],
    )


def debian_component(package: Package, file: Path) -> Component:
    """Describe a Debian package, with the licenses that its copyright file names."""
    qualifiers = {"arch": package.architecture, "distro": "debian-12"}
    purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=str(purl),
        purl=purl,
        hashes=[_HASHES.from_composite_str(f"sha256:{package.sha256}")],
        licenses=_named(licenses_of(package.name, file)),
    )


def licenses_of(name: str, file: Path) -> set[str]:
    """Return the licenses in the copyright file of a package."""
    place = f"./usr/share/doc/{name}/copyright"
    archive = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE, check=True
    ).stdout
    shown = subprocess.run(
        ["tar", "--extract", "--to-stdout", place],
        input=archive,
        capture_output=True,
        check=False,
    ).stdout.decode(errors="replace")
    # Older files are prose; some packages share the file of another one.
    machine_readable = shown.startswith("Format:")
    found = re.findall(r"^License: *(\S.*?) *$", shown, re.MULTILINE) if machine_readable else ()
    return set(found) or {f"see /usr/share/doc/{name}/copyright in the image"}


def metadata_of(wheel: Path) -> Message:
    """Read the description of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(place).decode())


def name_of(text: Message) -> str:
    """Return the name in the form in which names are compared."""
    return canonicalize_name(str(text["Name"]))


def needs(text: Message) -> set[str]:
    """Return the names of what a wheel requires."""
    required = map(Requirement, text.get_all("Requires-Dist") or ())
    return {canonicalize_name(each.name) for each in required}


def wheel_component(wheel: Path, text: Message) -> Component:
    """Describe a Python package by its wheel."""
    purl = PackageURL("pypi", None, name_of(text), str(text["Version"]))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Component(
        type=ComponentType.LIBRARY,
        name=name_of(text),
        version=str(text["Version"]),
        bom_ref=str(purl),
        purl=purl,
        hashes=[_HASHES.from_composite_str(f"sha256:{digest}")],
        licenses=_licenses_of_wheel(text),
        properties=[Property(name="keyferry:wheel", value=wheel.name)],
    )


def _licenses_of_wheel(text: Message) -> Iterable[License]:
    if expression := text["License-Expression"]:
        return [_LICENSES.make_from_string(str(expression))]
    known = [
        each.rpartition(" :: ")[2]
        for each in text.get_all("Classifier") or ()
        if each.startswith("License :: OSI Approved :: ")
    ]
    named = str(text["License"] or "").strip().partition("\n")[0]
    return _named(known or [named or "not stated by the package"])


def _named(names: Iterable[str]) -> list[License]:
    return [_LICENSES.make_with_name(name) for name in sorted(names)]


if __name__ == "__main__":
    main()
