"""`make sbom`: a bill of materials for each image, as CycloneDX JSON in build/sbom.

Made of the locks, which is what images install: versions, and the SHA-256 of every file that may be installed for one
(an image holds one of them). A licence is what the distribution itself says where it is installed (the development
environment holds them all), or what licences.toml says of its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from supply_chain import licences
from supply_chain.locks import OURS, ROOT, SERVICES, TORCH_CPU, TORCH_CUDA, Pin, path_of, project, read

FOLDER = ROOT / "build" / "sbom"

IMAGE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.14",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""The images' system, as markers see it; k8s/images/Dockerfile says which Python."""


class NoLicence(ValueError):
    """Nobody says under which licence a distribution is."""


class NotInstalled(NoLicence):
    """A locked distribution is not here to say it."""


def images() -> list[tuple[str, str]]:
    """Service and variant (`cpu` or `cuda`) of each image: `cuda` where torch is."""
    return [
        (service, variant)
        for service in SERVICES
        for variant in (("cpu", "cuda") if _named(read(path_of(service)), "torch") else ("cpu",))
    ]


def held(service: str, variant: str) -> list[Pin]:
    """What the image of a service holds, by name."""
    pins = {pin.name: pin for pin in _applying(service)}
    if variant == "cuda":
        pins |= {pin.name: pin for pin in _applying(TORCH_CUDA)}
        if pins.pop("faiss-cpu", None):
            pins |= {pin.name: pin for pin in _applying("faiss-gpu")}
    elif "torch" in pins:
        pins |= {pin.name: pin for pin in _applying(TORCH_CPU)}
    return [pin for _, pin in sorted(pins.items())]


def bill(service: str, variant: str, rules: licences.Rules) -> Bom:
    """The bill of an image; two of the same locks are alike, but for their time.

    Raises:
        NoLicence: of a distribution no licence is known (`NotInstalled`: because it is not here).
    """
    version = project()["project"]["version"]
    root = Component(
        name=f"cascade-{service}", version=version, type=ComponentType.CONTAINER, bom_ref=f"{OURS}[{service}]"
    )
    root.properties.add(Property(name="cascade:variant", value=variant))
    components = [_component(pin, rules) for pin in held(service, variant)]
    content = " ".join([service, variant, version, *(str(component.purl) for component in components)])
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, content))
    bom.metadata.component = root
    bom.components.update(components)
    bom.register_dependency(root, components)
    return bom


def write(folder: Path, rules: licences.Rules) -> Iterable[Path]:
    """Write each image's bill into a folder; the files, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for service, variant in images():
        path = folder / f"{service}-{variant}.cdx.json"
        document = json.loads(JsonV1Dot6(bill(service, variant, rules)).output_as_string())
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        yield path


def main() -> int:
    """Write them all."""
    for path in write(FOLDER, licences.rules()):
        print(f"{path.relative_to(ROOT)}: {len(json.loads(path.read_text())['components'])} distributions")
    return 0


def _applying(lock: str) -> list[Pin]:
    return [pin for pin in read(path_of(lock)) if pin.applies(IMAGE)]


def _named(pins: Iterable[Pin], name: str) -> bool:
    return any(pin.name == name for pin in pins)


def _component(pin: Pin, rules: licences.Rules) -> Component:
    licence = licences.licence_of(pin.name, rules)
    installed = _installed(pin.name)
    if not licence and installed is None:
        raise NotInstalled(f"{pin.name} {pin.version} is not installed to say its licence: run `make locked` first")
    if not licence:
        raise NoLicence(f"{pin.name} {pin.version} says nothing of its licence: say it in {licences.RULES.name}")
    purl = PackageURL("pypi", None, pin.name, pin.version)
    component = Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string(licence)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in sorted(pin.hashes)],
    )
    if installed is not None and installed.split("+")[0] != pin.version.split("+")[0]:
        component.properties.add(Property(name="cascade:licence-of-version", value=installed))
    return component


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
