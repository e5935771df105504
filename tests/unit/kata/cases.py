"""Wishes and configurations that the tests of Kata share."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Any

from vmtool.instance.instance import InstanceRecord
from vmtool.kata.document import Document, parse
from vmtool.kata.render import render
from vmtool.kata.values import Asked
from vmtool.rendering import to_toml
from vmtool.spec.kata_releases import RELEASES, release_of
from vmtool.spec.runtime import Body
from vmtool.tee.table import tee_of

COMBINATIONS = [(release.name, tee, gpu) for release in RELEASES for tee, gpu in release.combinations]
ASSETS = "/opt/kata/share/kata-containers"
FILES = ["/opt/kata/bin/qemu-system-x86_64-snp-experimental", f"{ASSETS}/vmlinuz.container",
         "/opt/kata/share/ovmf/AMDSEV.fd", "/opt/kata/bin/qemu-system-x86_64", f"{ASSETS}/vmlinux.container",
         "/opt/kata/libexec/virtiofsd",
         f"{ASSETS}/kata-containers-confidential.img", f"{ASSETS}/kata-containers.img", "/g.img", "/g.kernel"]
RECORD = InstanceRecord("chat", "d", "kata", "snp", "i", "m", "/c", True, "127.0.0.1", 8000, "/n", "/r", 1,
                        details={"program": FILES[0], "kernel": f"{ASSETS}/vmlinuz.container",
                                 "configuration": hashlib.sha256(b"text").hexdigest()})


def body(tee: str = "none", gpus: int = 0, kata: dict[str, Any] | None = None, **resources: Any) -> Body:
    return Body.model_validate({
        "runtime": {"handler": "kata", "tee": tee, "kata": kata or {}}, "model": {"name": "m", "path": "/m"},
        "resources": {"memory": "20Gi", "cpus": 4, "accelerators": {"count": gpus}} | resources})


def asked(release: str, tee: str = "none", gpus: int = 0, *, verity: str = "", kata: dict[str, Any] | None = None,
          **resources: Any) -> Asked:
    """A wish; on arm64 where the TEE or the release says so."""
    known = tee_of(tee)
    arch = known.architecture.machine if known else "aarch64" if release.endswith("virtcca") else "x86_64"
    return Asked(body(tee, gpus, kata, **resources), release_of(release), arch, gpus, verity)


def edited(release: str, tee: str, gpus: int, changes: dict[str, Any], name: str = "c.toml") -> Document:
    """A rendered configuration with keys ("section.key") set, or by None removed; as a parsed file."""
    values = tomllib.loads(render(asked(release, tee, gpus))[0])
    for place, value in changes.items():
        *sections, key = place.split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
        table.pop(key, None)
        if value is not None:
            table[key] = value
    return parse("\n".join(_dump(values, "")) + "\n", name)


def _dump(table: dict[str, Any], section: str) -> list[str]:
    lines = [f"[{section}]"] if section else []
    lines += [f"{key} = {_literal(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _dump(value, f"{section}.{key}".lstrip("."))
    return lines


def _literal(value: Any) -> str:
    return repr(value) if isinstance(value, float) else to_toml(value)
