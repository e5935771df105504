"""Which tests may run beside which others, when `scripts/test` runs them in several processes.

A lane's tests run one after the other, in the order in which they were collected. Everything that changes the machine
itself (links, iptables, containers) and looks whether it is afterwards as before is in one lane. Beside it runs what
only makes files, starts emulated machines, or is in namespaces of its own (tests/integration/apart.py).
"""

from __future__ import annotations

HOST, LAB, ROOTFS = "host", "lab", "rootfs"
# Beginnings of test ids. The guest images have one cache, which a build locks, and share those that were built.
LANES = (("tests/lab/", LAB), ("tests/integration/test_rootfs", ROOTFS), ("tests/integration/", HOST))
# Of those for the host: they leave nothing, and look at nothing, that others would find or disturb. The longest first.
ANYWHERE = tuple(f"tests/integration/{name}.py" for name in (
    "test_image", "test_net", "test_watch", "serving/test_tls", "test_isolation", "test_leases",
    "serving/test_held", "serving/test_certificates", "serving/test_tokens", "serving/test_metrics", "test_libvirt_xml",
    "test_shell_lines_net", "test_setup", "test_encrypted_models", "serving/test_restarts", "test_chat",
    "connect/test_connect", "connect/test_tpm", "test_broker", "serving/test_turns", "test_kata_cli",
    "test_torch_index", "test_tpm_quotes", "test_device_writes", "test_fuzz_evidence", "serving/test_front",
    "serving/test_key_agent", "serving/test_piles", "serving/test_leave", "serving/test_otlp", "test_log_writer"))
# The longest first, so that no lane is left over at the end; the lab not at once, since its parts may still be made.
ORDER = (HOST, ROOTFS, *ANYWHERE[:2], LAB, *ANYWHERE[2:])


def lane_of(nodeid: str) -> str:
    """The lane of a test; what needs no lane goes by its module, since a module's tests may share what they made."""
    module = nodeid.partition("::")[0]
    if module in ANYWHERE:
        return module
    for beginning, lane in LANES:
        if nodeid.startswith(beginning):
            return lane
    return module


def niceness(nodeid: str) -> int:
    """By how much other tests go before it. The host's lane is the longest, and is as long as it has to wait for a
    processor; what only computes takes what the others, which mostly wait, leave over."""
    if nodeid.startswith("tests/unit/"):
        return 5
    return -5 if lane_of(nodeid) == HOST else 0


def rank(nodeid: str) -> int:
    """Tests are collected in this order: lanes first, then the modules without one."""
    lane = lane_of(nodeid)
    return ORDER.index(lane) if lane in ORDER else len(ORDER)
