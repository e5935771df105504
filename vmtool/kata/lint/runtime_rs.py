"""Kata's Rust runtime: which of the keys it reads, as far as they are known, and what became of the Go runtime's.

Source: Kata's guide to migrating from the Go runtime (docs of release 4.0). Its parser ignores what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding
from vmtool.kata.document import sections
from vmtool.kata.lint.target import AGENT, QEMU, RUNTIME, LintTarget
from vmtool.kata.lint.types import type_findings

# Keys that only this runtime's files have, to choose its parts.
MARKS = ("name", "hypervisor_name", "agent_name")
UNDONE, DROPPED = "is not implemented in runtime-rs yet", "was dropped in runtime-rs"
# (section, key of the Go runtime) -> what became of it, and what to write.
CHANGED: dict[tuple[str, str], tuple[str, str]] = {
    **{(QEMU, key): (UNDONE, "remove it, or use the Go shim") for key in (
        "enable_numa", "numa_mapping", "net_rate_limiter_bw_max_rate", "net_rate_limiter_bw_one_time_burst",
        "net_rate_limiter_ops_max_rate", "net_rate_limiter_ops_one_time_burst")},
    **{(QEMU, key): (DROPPED, "remove it, or use the Go shim") for key in (
        "firmware_volume", "measurement_algo", "vhost_user_reconnect_timeout_sec", "use_legacy_serial")},
    (QEMU, "seccompsandbox"): ("was renamed", "write seccomp_sandbox"),
    (QEMU, "hypervisor_loglevel"): ("was renamed, and is a word", 'write log_level = "info"'),
    (QEMU, "hot_plug_vfio"): ("was replaced", "write hotplug_vfio_on_root_bus = true, with pcie_root_port"),
    (RUNTIME, "guest_selinux_label"): ("was moved", "write selinux_label in [hypervisor.qemu]"),
    (RUNTIME, "create_container_timeout"): ("was moved", "write create_container_timeout in [agent.kata]"),
    (RUNTIME, "experimental_force_guest_pull"): ("was replaced", 'write experimental = ["force_guest_pull"]'),
    (AGENT, "dial_timeout"): ("was renamed, and is in milliseconds", "write dial_timeout_ms"),
    (AGENT, "cdh_api_timeout"): ("was renamed, and is in milliseconds", "write cdh_api_timeout_ms"),
    **{("factory", key): ("was moved", f"write {key} in [hypervisor.qemu.factory]") for key in (
        "enable_template", "template_path")},
    **{("factory", key): (DROPPED, "remove it") for key in ("vm_cache_number", "vm_cache_endpoint")},
}
OWN = {
    QEMU: ("vm_rootfs_driver", "queue_size", "num_queues", "network_queues", "ctlpath", "valid_ctlpaths",
           "prefetch_list_path", "hugepage_type", "virtio_fs_is_dax", "guest_swap_path", "guest_swap_size_percent",
           "guest_swap_create_threshold_secs", "boot_to_be_template", "boot_from_template", "memory_path",
           "device_state_path", "seccomp_sandbox", "log_level", "hotplug_vfio_on_root_bus", "selinux_label",
           "initdata"),
    RUNTIME: (*MARKS, "keep_abnormal", "shared_mounts", "use_passfd_io", "passfd_listener_port", "log_level"),
    AGENT: ("server_port", "log_port", "passfd_listener_port", "reconnect_timeout_ms",
            "health_check_request_timeout_ms",
            "container_pipe_size", "dial_timeout_ms", "cdh_api_timeout_ms", "create_container_timeout", "policy",
            "log_level"),
}


# Values of the Go runtime that this one calls otherwise, or has not: what to write.
VALUES: dict[tuple[str, str], dict[str, str]] = {
    (QEMU, "block_device_driver"): {"virtio-blk": "virtio-blk-pci", "virtio-mmio": "virtio-blk-mmio",
                                    "nvdimm": "virtio-pmem"},
}


def is_runtime_rs(target: LintTarget) -> bool:
    """Whether the file is the Rust runtime's: only that one chooses its parts in [runtime]."""
    return any(mark in target.document.section(RUNTIME) for mark in MARKS)


def runtime_rs_findings(target: LintTarget) -> Iterator[Finding]:
    """What is known of it: keys of the Go runtime that do nothing, misspelt ones, wrong types."""
    for section, table in sections(target.document.values).items():
        for key, value in table.items():
            if isinstance(value, str) and (other := VALUES.get((section, key), {}).get(value)):
                yield target.finding("runtime-rs.go-value", section, key, f"{key} = {value!r} is the Go runtime's word",
                                     f'write {key} = "{other}"')
            if (section, key) == (QEMU, "enable_guest_swap") and value is True:
                yield target.finding("runtime-rs.swap", section, key, "runtime-rs refuses enable_guest_swap with QEMU",
                                     "write enable_guest_swap = false, or use the Go shim")
            if (section, key) in CHANGED:
                what, hint = CHANGED[section, key]
                yield target.finding("runtime-rs.go-key", section, key, f"{key} of the Go runtime {what}", hint)
            elif target.release.knows(section, key):
                yield from type_findings(target, section, key, target.release.keys[section][key], value)
            elif section in OWN and key not in OWN[section]:
                yield from _misspelt(target, section, key)


def _misspelt(target: LintTarget, section: str, key: str) -> Iterator[Finding]:
    """Not every key is known, so only what is nearly one is reported."""
    import difflib  # few files have an unknown key

    known = [*OWN[section], *target.release.keys.get(section, ())]
    near = difflib.get_close_matches(key[:80], known, n=1, cutoff=0.8)
    if near:
        yield target.finding("runtime-rs.unknown", section, key, f"runtime-rs is not known to read {key[:80]}",
                             f"did you mean {near[0]}?")
