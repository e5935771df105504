"""Requests and configurations that the tests of Kata share."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Any

from vmtool.instance.instance import InstanceRecord
from vmtool.kata.base import known_base
from vmtool.kata.document import Document, parse
from vmtool.kata.render import render
from vmtool.kata.request import KataRequest
from vmtool.rendering import to_toml
from vmtool.spec.kata_releases import release_of, releases
from vmtool.spec.runtime import Body
from vmtool.tee.table import tee_of

COMBINATIONS = [(release.name, tee, gpu) for release in releases() for tee, gpu in release.combinations]
ASSETS = "/opt/kata/share/kata-containers"
FILES = ["/opt/kata/bin/qemu-system-x86_64-snp-experimental", f"{ASSETS}/vmlinuz.container",
         "/opt/kata/share/ovmf/AMDSEV.fd", "/opt/kata/bin/qemu-system-x86_64", f"{ASSETS}/vmlinux.container",
         "/opt/kata/libexec/virtiofsd",
         f"{ASSETS}/kata-containers-confidential.img", f"{ASSETS}/kata-containers.img", "/g.img", "/g.kernel"]
RECORD = InstanceRecord("chat", "d", "kata", "snp", "i", "m", "/c", True, "127.0.0.1", 8000, "/n",
                        "/i/chat/net/r.json", 1,
                        details={"program": FILES[0], "kernel": f"{ASSETS}/vmlinuz.container",
                                 "configuration": hashlib.sha256(b"text").hexdigest()})


def body(tee: str = "none", gpus: int = 0, kata: dict[str, Any] | None = None, **resources: Any) -> Body:
    return Body.model_validate({
        "runtime": {"handler": "kata", "tee": tee, "kata": kata or {}}, "model": {"name": "m", "path": "/m"},
        "resources": {"memory": "20Gi", "cpus": 4, "accelerators": {"count": gpus}} | resources})


def requested(release: str, tee: str = "none", gpus: int = 0, *, verity: str = "", kata: dict[str, Any] | None = None,
              **resources: Any) -> KataRequest:
    """A request; on arm64 where the TEE or the release says so. Where the archive has no QEMU, /qemu is it."""
    known, row = tee_of(tee), release_of(release)
    arch = known.architecture.machine if known else "aarch64" if release.endswith("virtcca") else "x86_64"
    spec = body(tee, gpus, ({"qemu": "/qemu"} if (release, tee) == ("3.15", "tdx") else {}) | (kata or {}), **resources)
    name = row.configuration(tee, gpus)
    base = known_base(row, name, arch, spec.runtime.kata.prefix) if name else None
    return KataRequest(spec, row, arch, gpus, base, verity or spec.runtime.kata.verity)


def edited(release: str, tee: str, gpus: int, changes: dict[str, Any], name: str = "c.toml") -> Document:
    """A rendered configuration with keys ("section.key") set, or by None removed; as a parsed file."""
    values = tomllib.loads(render(requested(release, tee, gpus)).text)
    for place, value in changes.items():
        *sections, key = place.split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
        table.pop(key, None)
        if value is not None:
            table[key] = value
    row = release_of(release)
    return parse("\n".join(_dump(values, "")) + "\n", name, row.toml, row.keys)


def _dump(table: dict[str, Any], section: str) -> list[str]:
    lines = [f"[{section}]"] if section else []
    lines += [f"{key} = {to_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _dump(value, f"{section}.{key}".lstrip("."))
    return lines
