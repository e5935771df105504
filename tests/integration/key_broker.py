"""An encrypted model with its owner's keys, and the embedded broker as a process that releases one."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.integration.machine import Vmtool
from tests.unit.models.encryption.make import Owner

RESOURCE = "demo/canary/key"


class Encrypted:
    """The canary model, encrypted, with the keys of its owner."""

    def __init__(self, directory: Path, vmtool: Vmtool, plain: Path) -> None:
        # The container's user reads the model by a bind mount; the keys are root's.
        self.path = directory / "model"
        self.owner = Owner(directory)
        vmtool("model", "encrypt", plain, "-o", self.path, "--key", self.owner.key, "--sign", self.owner.sign)

    def model(self, **changes: Any) -> dict[str, Any]:
        return {"name": "canary", "path": str(self.path), "encryption": {
            "signer": str(self.owner.sign), "key": {"file": str(self.owner.key)}}} | changes


class Broker:
    """The embedded broker at the gateway of a network of `vmtool net add`, as docs/key-broker.md has it.

    Args:
        resources: by name the file with the key, and the policy by which it is released.
        more: of its configuration.
    """

    def __init__(self, vmtool: Vmtool, directory: Path, resources: Mapping[str, tuple[Path, dict[str, Any]]],
                 **more: Any) -> None:
        self.vmtool, self.directory = vmtool, directory
        vmtool("net", "add", "broker")
        self.address = vmtool("net", "show", "broker", "--json").json["network"]["gateway"]
        (directory / "ca.pem").write_text(vmtool("ca", "export").out)
        (directory / "broker.yaml").write_text(yaml.safe_dump({
            "apiVersion": "vmtool/v1", "kind": "Broker", "listen": f"{self.address}:8443", "tls": {"source": "ca"},
            "audit": "audit.jsonl", "allow_unconfidential": True, **more, "resources": {
                name: {"file": str(key), "policy": policy} for name, (key, policy) in resources.items()}}))

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(self.vmtool.argv("key", "serve", self.directory / "broker.yaml"),
                              stderr=subprocess.PIPE, text=True) as child:
            try:
                assert child.stderr and "the broker listens on https://" in child.stderr.readline()
                yield child
            finally:
                child.kill()

    def spec(self, encrypted: Encrypted, resource: str = RESOURCE) -> dict[str, Any]:
        """What a spec says of it."""
        key = {"resource": resource, "url": f"https://{self.address}:8443", "ca": str(self.directory / "ca.pem")}
        return {"network": {"name": "broker"}, "model": encrypted.model(encryption={
            "signer": str(encrypted.owner.sign), "key": {"broker": key}})}

    def audited(self) -> list[dict[str, Any]]:
        """Its decisions."""
        lines = map(json.loads, (self.directory / "audit.jsonl").read_text().splitlines())
        return [each for each in lines if each["step"] != "start"]

    def decisions(self) -> list[tuple[str, str]]:
        return [(each["step"], each["verdict"]) for each in self.audited()]
