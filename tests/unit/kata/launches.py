"""Launches with Kata that tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.fakes.launches import Found, launched
from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import FILES
from tests.unit.launch.cases import MODEL, NETWORK, STATE
from vmtool.doctor.host import HostFacts, read_host
from vmtool.gpu.facts import read_gpu
from vmtool.kata.facts import target_of
from vmtool.kata.request_facts import read_request
from vmtool.kata.shims import read_kata
from vmtool.launch.pipeline import plan_launch
from vmtool.machine import DeviceReader
from vmtool.plan import Plan
from vmtool.spec.runtime import Spec
from vmtool.tee.tee import TeeSupport

GPU = {"bdf": ["0000:c1:00.0"]}
VIRTCCA = {"handler": "kata", "tee": "none", "kata": {"version": "4.1", "image": "/g.img", "kernel": "/g.kernel",
                                                      "firmware": "/g.kernel"}}
YES = TeeSupport(True, ("said so",))


def host() -> HostFacts:
    """An SNP machine with Kata 3.30 and all that a launch needs."""
    plain = read_host(Recorded.load("debian12-pvm"), "/s", guests=False)
    kata = read_kata(Recorded.load("epyc-snp"), "x86_64")
    config = dict.fromkeys((*plain.kernel.config, "VHOST_VSOCK", "VFIO", "VFIO_PCI", "VFIO_IOMMU_TYPE1"), "y")
    return replace(plain, network=NETWORK, kata=kata, kernel=replace(plain.kernel, config=config),
                   kvm=replace(plain.kvm, verdict="runs", vhost_vsock=True),
                   tee=plain.tee | {"snp": YES, "virtcca": YES}, iommu=replace(plain.iommu, groups=9, vfio_group=True))


def wish(**changes: Any) -> Spec:
    body = {"runtime": {"handler": "kata", "tee": "snp"}, "image": "vmtool/x", "model": {"name": "m", "path": "/m"},
            "resources": {"memory": "2Gi", "cpus": 1}, "network": {"publish": ["8000"]}}
    return Spec.model_validate({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "chat"},
                                "spec": body | changes})


def facts(spec: Spec, gpus: DeviceReader | None = None, on: HostFacts | None = None) -> Found:
    found = on or host()
    looked = read_request(Recorded({"exists": FILES}), spec.spec, target_of(found.cpu, found.memory, found.kata))
    return Found(found, MODEL, None, looked, read_gpu(gpus, STATE) if gpus else None)


def plan(spec: Spec | None = None, **more: Any) -> Plan:
    spec = spec or wish()
    return plan_launch(*launched(STATE, spec, facts(spec, **more)))
