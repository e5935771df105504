"""configuration.toml: rendered from its template, read back, linted."""

from __future__ import annotations

import dataclasses
from typing import Any

from vmtool.errors import VmtoolError
from vmtool.findings import Finding, failing
from vmtool.kata.config_choice import ETC
from vmtool.kata.document import parse
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.rules import Subject
from vmtool.kata.values import Asked, Values, values_of
from vmtool.rendering import render_template
from vmtool.tee.table import tee_of

NAME = "configuration.toml"
BESIDE = {"handler": "kata/handler.toml", "runtimeclass": "k8s/runtimeclass.yaml", "udev": "kata/udev.rules"}
# MiB of QEMU, virtiofsd and the shim beside the guest's memory.
QEMUS_OWN = 256


def render(asked: Asked) -> tuple[str, tuple[Finding, ...]]:
    """The configuration, and what the lint has to say about it that is no error.

    Raises:
        VmtoolError: the template's result is not what was wanted; a fault of the template.
    """
    values = values_of(asked)
    template = f"kata/{asked.release.keys.lower()}.toml"
    text = render_template(template, **dataclasses.asdict(values), release=asked.release.name, tee=asked.tee)
    document = parse(text, NAME)
    findings = lint(Subject(document, asked.release, asked=asked.tee, gpus=asked.gpus))
    problems = [f"{item.place}: {item.detail}" for item in failing(findings)]
    problems += differences(values, document.values)
    if problems:
        raise VmtoolError(f"templates/{template}.j2 gives no sound configuration", details=problems)
    return text, findings


def render_kind(kind: str, asked: Asked) -> tuple[str, tuple[Finding, ...]]:
    """The configuration, or what goes with it: containerd's "handler", Kubernetes' "runtimeclass", "udev" rules."""
    if kind == "configuration":
        return render(asked)
    values, tee = values_of(asked), tee_of(asked.tee)
    text = render_template(
        BESIDE[kind], handler=handler_name(asked), config_path=ETC, gpus=asked.gpus, vfio=asked.vfio,
        host_node=tee.host_node if tee else "",
        # containerd hands on only what is listed here; the configuration says which of them Kata takes.
        pod_annotations=("io.katacontainers.*",) if values.enable_annotations else (),
        default_memory=values.default_memory, overhead_memory=f"{values.default_memory + QEMUS_OWN}Mi",
        overhead_cpu=str(values.default_vcpus))
    if kind == "handler":
        parse(text, f"{BESIDE[kind]}.j2")
    return text, ()


def handler_name(asked: Asked) -> str:
    """Such as kata-snp-gpu."""
    parts = ("kata", asked.tee if asked.confidential else "", "gpu" if asked.gpus else "")
    return "-".join(part for part in parts if part)


def differences(values: Values, document: dict[str, Any]) -> list[str]:
    """Values that the parsed file does not hold, or holds otherwise. What a release has no key for is in no file."""
    written = {key: value for table in (document["hypervisor"]["qemu"], document["agent"]["kata"], document["runtime"])
               for key, value in table.items()}
    wanted = {key: list(value) if isinstance(value, tuple) else value
              for key, value in dataclasses.asdict(values).items()}
    return [f"{key} is {written[key]!r}, not {value!r}" for key, value in wanted.items()
            if key in written and written[key] != value]
