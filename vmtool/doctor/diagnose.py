"""Facts of a host against a purpose: what is there, what is missing, what could not be looked at, and the next move.

Nothing here looks at the machine; `vmtool.doctor.host.read_host` did.
"""

from __future__ import annotations

from vmtool.doctor.confidential import confidential_findings
from vmtool.doctor.containers import container_findings
from vmtool.doctor.guests import guest_findings
from vmtool.doctor.host import HostFacts
from vmtool.doctor.machine import machine_findings
from vmtool.findings import Finding, Handler
from vmtool.tee.table import NONE, TeeName

# First part of a finding's id -> heading, in the order in which they are shown.
GROUPS = {"user": "machine", "cpu": "machine", "kernel": "machine", "memory": "machine", "disk": "machine",
          "containerd": "containers", "runc": "containers", "cni": "containers", "network": "containers",
          "kvm": "guests", "iommu": "guests", "kata": "guests", "libvirt": "guests", "tee": "confidential"}


def diagnose(facts: HostFacts, purpose: Handler = "runc", tee: TeeName = NONE) -> tuple[Finding, ...]:
    """Everything that matters for launching by `purpose` in `tee`, in the order of `GROUPS`.

    libvirt boots a guest without containerd; the workload's containers are then the guest's own affair.
    """
    found = [*machine_findings(facts, purpose)]
    if purpose != "libvirt":
        found += container_findings(facts, purpose)
    found += guest_findings(facts, purpose, tee)
    found += confidential_findings(facts, tee)
    order = list(dict.fromkeys(GROUPS.values()))
    return tuple(sorted(found, key=lambda item: order.index(group_of(item))))


def group_of(item: Finding) -> str:
    """The heading that a finding comes under."""
    return GROUPS[item.id.partition(".")[0]]
