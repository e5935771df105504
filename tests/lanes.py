"""Which tests may run beside which others, when `scripts/test` runs them in several processes.

A lane's tests run one after the other, in the order in which they were collected. Everything that looks at the whole
machine (namespaces, links, iptables, processes, mounts) is in one lane; what only makes files or starts emulated
machines runs beside it.
"""

from __future__ import annotations

HOST, LAB, ROOTFS = "host", "lab", "rootfs"
# Beginnings of test ids. The guest images have one cache, which a build locks, and share those that were built.
LANES = (("tests/lab/", LAB), ("tests/integration/test_rootfs", ROOTFS), ("tests/integration/", HOST))
# Of those for the host: they start nothing, and look at nothing, that others would find or disturb.
ANYWHERE = tuple(f"tests/integration/{name}.py" for name in (
    "connect/test_connect", "connect/test_tpm",
    "test_chat", "test_device_writes", "test_encrypted_models", "test_fuzz_evidence",
    "test_isolation", "test_kata_cli", "test_libvirt_xml",
    "test_setup", "test_torch_index", "test_watch", "serving/test_certificates", "serving/test_front",
    "serving/test_held", "serving/test_metrics", "serving/test_otlp", "serving/test_tls", "serving/test_tokens"))
# The longest first, so that no lane is left over at the end; what waits more than it works beside them; the lab after
# those, since its parts may still be made.
ORDER = (HOST, ROOTFS, *ANYWHERE, LAB)


def lane_of(nodeid: str) -> str:
    """The lane of a test; what needs no lane goes by its module, since a module's tests may share what they made."""
    module = nodeid.partition("::")[0]
    if module in ANYWHERE:
        return module
    for beginning, lane in LANES:
        if nodeid.startswith(beginning):
            return lane
    return module


def rank(nodeid: str) -> int:
    """Tests are collected in this order: lanes first, then the modules without one."""
    lane = lane_of(nodeid)
    return ORDER.index(lane) if lane in ORDER else len(ORDER)
