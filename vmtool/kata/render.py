"""configuration.toml: the shipped one with vmtool's changes, written, read back and linted."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from vmtool.errors import NotReady, VmtoolError
from vmtool.findings import Finding, failing
from vmtool.frozen import dataclass
from vmtool.kata.base import Base
from vmtool.kata.change import Change, apply_changes, by_place
from vmtool.kata.changes import plan_changes
from vmtool.kata.config_choice import ETC
from vmtool.kata.document import parse, sections
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.target import LintTarget
from vmtool.kata.request import KataRequest
from vmtool.rendering import render_template, to_toml, to_toml_key
from vmtool.tee.table import tee_of

NAME = "configuration.toml"
BESIDE = {"handler": "kata/handler.toml", "runtimeclass": "k8s/runtimeclass.yaml", "udev": "kata/udev.rules"}
# MiB of QEMU, virtiofsd and the shim beside the guest's memory.
QEMUS_OWN = 256


@dataclass(frozen=True, eq=False)
class Rendering:
    """A configuration and where it comes from.

    Args:
        text: the whole file.
        findings: what the lint has to say about it.
    """

    base: Base
    changes: tuple[Change, ...]
    values: Mapping[str, Mapping[str, Any]]
    text: str
    findings: tuple[Finding, ...]


@functools.lru_cache(maxsize=1)
def draft(request: KataRequest) -> Rendering:
    """The configuration with all its findings, those that refuse it as well.

    Raises:
        VmtoolError: what was written is not what was wanted; a fault of vmtool.
    """
    base = request.base
    if base is None:
        raise VmtoolError(f"Kata {request.release.name} has no configuration for {request.tee}")
    changes = plan_changes(request, base)
    values = apply_changes(base, changes)
    title = (f"Kata Containers {request.release.title}, TEE {request.tee}: {base.source},",
             f"with {len(changes)} changes by vmtool; each has its reason above it. A change changes what is measured.")
    text = write(title, values, changes)
    document = parse(text, NAME, request.release.toml)
    if sections(document.values) != _listed(values):
        raise VmtoolError("what was written is not the configuration that was meant",
                          details=differences(_listed(values), sections(document.values)))
    findings = lint(LintTarget(document, request.release, asked=request.tee, gpus=request.gpus, arch=request.arch))
    return Rendering(base, changes, values, text, findings)


def render(request: KataRequest) -> Rendering:
    """The configuration, sound as the lint sees it.

    Raises:
        NotReady: it is not, which the check of the request would have said.
    """
    made = draft(request)
    if problems := failing(made.findings):
        raise NotReady(f"{made.base.source} and the spec make no sound configuration",
                       details=[f"{item.place}: {item.detail}" for item in problems],
                       hint="correct what is named, in the spec or in the file")
    return made


def render_drop_in(made: Rendering) -> str:
    """The changes alone, for config.d beside the shipped file."""
    values: dict[str, dict[str, Any]] = {}
    for change in made.changes:
        values.setdefault(change.section, {})[change.key] = change.value
    return write((f"vmtool's changes to {made.base.source}: a drop-in for its config.d.",), values, made.changes)


def write(title: tuple[str, ...], values: Mapping[str, Mapping[str, Any]], changes: tuple[Change, ...]) -> str:
    """TOML, byte for byte the same for the same values."""
    places = by_place(changes)
    lines = [f"# {line}" for line in title]
    # Keys above the first table are of no table, and come first.
    for name, table in sorted(values.items(), key=lambda section: section[0] != ""):
        lines += ["", f"[{name}]"] if table and name else []
        for key, value in table.items():
            lines += _comment(places.get((name, key)))
            lines.append(f"{to_toml_key(key)} = {to_toml(value)}")
    return "\n".join(lines) + "\n"


def _comment(change: Change | None) -> list[str]:
    if change is None:
        return []
    return [f"# {change.reason} (shipped: {'not set' if change.shipped is None else to_toml(change.shipped)})"]


def differences(wanted: Mapping[str, Mapping[str, Any]], written: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Values that the file does not hold, or holds otherwise."""
    return [f"{section}.{key} is {written.get(section, {}).get(key)!r}, not {value!r}"
            for section, table in wanted.items() for key, value in table.items()
            if written.get(section, {}).get(key) != value]


def _listed(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {section: dict(table) for section, table in values.items() if table}


def render_kind(kind: str, request: KataRequest) -> str:
    """What goes with the configuration: containerd's "handler", Kubernetes' "runtimeclass", "udev" rules."""
    tee, memory = tee_of(request.tee), request.memory
    text = render_template(
        BESIDE[kind], handler=handler_name(request), config_path=ETC, gpus=request.gpus, vfio=request.vfio,
        host_node=tee.host_node if tee else "",
        # containerd hands on only what is listed here; the configuration says which of them Kata takes.
        pod_annotations=("io.katacontainers.*",) if request.kata.annotations else (),
        default_memory=memory, overhead_memory=f"{memory + QEMUS_OWN}Mi", overhead_cpu=str(request.vcpus))
    if kind == "handler":
        parse(text, f"{BESIDE[kind]}.j2")
    return text


def handler_name(request: KataRequest) -> str:
    """Such as kata-snp-gpu."""
    parts = ("kata", request.tee if request.confidential else "", "gpu" if request.gpus else "")
    return "-".join(part for part in parts if part)
