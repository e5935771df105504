"""What of a libvirt guest its TEE measures, as its domain has it."""

from __future__ import annotations

from pathlib import Path

from tests.unit.libvirt.cases import BRIDGE, STATE, facts, text, wish
from vmtool.libvirt.launch_domain import launch_domain
from vmtool.libvirt.measured import measured_guest


def test_a_virtcca_guest_is_measured_as_its_domain_starts_it() -> None:
    spec = wish("virtcca", libvirt={"device_tree": "/t.dtb", "kernel_params": ["mine=1"]})
    guest = measured_guest(spec.spec, launch_domain(STATE, spec, facts("virtcca"), (), BRIDGE), "")
    assert guest.device_tree == Path("/t.dtb")
    domain = text(spec)
    assert f"<cmdline>{guest.cmdline}</cmdline>" in domain and "mine=1" in domain
    assert f">{guest.vcpus}</vcpu>" in domain
    assert f"<memory unit='b'>{guest.given_memory}</memory>" in domain
