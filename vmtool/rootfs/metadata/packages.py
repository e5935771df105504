"""What packages an image is made of: read from apt's or rpm's listing, written as a lock file and as SPDX."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from vmtool.rootfs.metadata.manifest import Manifest


@dataclass(frozen=True, order=True)
class Package:
    """A package: `sha256` of its file, as the archive's signed index has it; empty when it came as a file."""

    name: str
    version: str
    architecture: str
    sha256: str = ""
    manager: str = "deb"


def parse(text: str) -> tuple[Package, ...]:
    """Packages out of `apt-cache show` paragraphs, or lines of rpm's "rpm NAME VERSION ARCH SHA256"; sorted.

    apt-cache shows an installed package twice, once with and once without the file's hash.
    """
    found: dict[tuple[str, str, str], Package] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Package|Version|Architecture|SHA256): (\S+)$", paragraph, re.MULTILINE))
        if {"Package", "Version", "Architecture"} <= fields.keys():
            package = Package(fields["Package"], fields["Version"], fields["Architecture"], fields.get("SHA256", ""))
            key = (package.name, package.version, package.architecture)
            if key not in found or package.sha256:
                found[key] = package
    for name, version, arch, digest in re.findall(r"^rpm (\S+) (\S+) (\S+) (\S+)$", text, re.MULTILINE):
        found[name, version, arch] = Package(name, version, arch, digest, "rpm")
    return tuple(sorted(found.values()))


def lock_text(recipe: str, packages: Sequence[Package], driver: Mapping[str, object]) -> str:
    """The lock file: every package with version and hash, and the driver."""
    return json.dumps({"schema": "vmtool/rootfs-lock/v1", "recipe": recipe, "driver": driver,
                       "packages": [asdict(each) for each in packages]}, indent=1) + "\n"


def spdx_text(manifest: Manifest, packages: Sequence[Package]) -> str:
    """An SPDX 2.3 document; the same image gives the same bytes."""
    created = datetime.datetime.fromtimestamp(manifest.epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entries = [{"SPDXID": "SPDXRef-image", "name": manifest.name, "downloadLocation": "NOASSERTION",
                "versionInfo": manifest.recipe[:12], "filesAnalyzed": False,
                "checksums": [{"algorithm": "SHA256", "checksumValue": manifest.sha256}]}]
    for number, each in enumerate(packages):
        distribution = "debian" if each.manager == "deb" else "rpm"
        entries.append({
            "SPDXID": f"SPDXRef-package-{number}", "name": each.name, "versionInfo": each.version,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            **({"checksums": [{"algorithm": "SHA256", "checksumValue": each.sha256}]} if each.sha256 else {}),
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator":
                              f"pkg:{each.manager}/{distribution}/{each.name}@{each.version}"
                              f"?arch={each.architecture}"}]})
    relations = [{"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS",
                  "relatedSpdxElement": entry["SPDXID"]} for entry in entries[1:]]
    return json.dumps({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": manifest.name,
        "documentNamespace": f"urn:vmtool:rootfs:{manifest.sha256 or manifest.content}",
        "creationInfo": {"created": created, "creators": ["Tool: vmtool"]}, "packages": entries,
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                           "relatedSpdxElement": "SPDXRef-image"}, *relations]}, indent=1) + "\n"
