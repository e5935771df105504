"""Commands as they are typed, in this process, on a recorded host in the place of the real one."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.fakes.machine.containers import image_texts
from tests.fakes.recorded import HOSTS, Recorded
from vmtool.cli.main import vmtool
from vmtool.host.local import LocalMachine
from vmtool.paths import State

# Where recorded hosts have vmtool's state, and where a test puts it.
STATE = "/var/lib/vmtool"
READS = ("beside", "text", "guarded", "names", "link", "exists", "which", "run", "busy", "udev")


def recorded(state: Path, *names: str, **more: Any) -> Recorded:
    """Recordings below tests/data laid upon each other (such as "hosts/epyc-snp"), with vmtool's state in `state`;
    `more` are entries of their tables."""
    data: dict[str, Any] = {}
    for name in names:
        merge(data, json.loads((HOSTS.parent / f"{name}.json").read_text().replace(STATE, str(state))))
    return Recorded(merge(data, more))


def merge(data: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Tables of one recording into another's."""
    for table, entries in copy.deepcopy(more).items():
        if isinstance(entries, dict):
            data.setdefault(table, {}).update(entries)
        else:
            data[table] = [*data.get(table, []), *entries]
    return data


def install(host: Recorded, patch: pytest.MonkeyPatch) -> None:
    """Let every reading of the real machine read this host: whichever module reads, and wherever it lies."""
    for name in READS:
        patch.setattr(LocalMachine, name, _reading(getattr(host, name)))


def _reading(read: Any) -> Any:
    def reading(self: LocalMachine, *words: Any, **options: Any) -> Any:
        return read(*words, **options)

    # By this name a RecordingReader remembers what it was asked.
    reading.__name__ = read.__name__
    return reading


def typed(state: Path, *words: str) -> Result:
    """The command's output and exit code; what it raises is in the result."""
    return CliRunner().invoke(vmtool, ["--state-dir", str(state), *words], prog_name="vmtool")


def launchable(state: Path, file: Path, patch: pytest.MonkeyPatch, texts: Mapping[str, str] = {},
               names: Mapping[str, Sequence[str]] = {}) -> None:
    """Write a spec that can be launched with runc, and install a host for it, with further files and directories."""
    model = {"/m/config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
             "/m/canary.json": json.dumps({"prompt": "Why?", "expect": "So."})}
    image = image_texts(State(state), "docker.io/vmtool/x:latest")
    find = "find -L /m -maxdepth 2 -printf '%y %m %s %P\\0'"
    listed = "d 755 0 \0f 644 9 config.json\0f 644 2 tokenizer.json\0f 644 1048576 model.safetensors\0"
    install(recorded(state, "hosts/debian12-pvm", "net/plain", texts=model | image | dict(texts), names={
        str(state / "images"): ["x"], **names}, which={"iptables": "/usr/sbin/iptables"},
                     outputs={find: {"out": listed}}), patch)
    file.write_text(yaml.safe_dump({
        "apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "a"}, "spec": {
            "runtime": {"handler": "runc"}, "allow_unconfidential": True, "image": "vmtool/x",
            "model": {"name": "m", "path": "/m"}, "resources": {"memory": "2Gi", "cpus": 1},
            "network": {"publish": ["8000"]}}}))
