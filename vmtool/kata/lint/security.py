"""What opens the guest to whoever has the host."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.attest.measure.init_data import ALLOWS_INIT_DATA
from vmtool.findings import Finding
from vmtool.kata.lint.target import AGENT, QEMU, RUNTIME, LintTarget
from vmtool.tee.snp import SNP

DEBUG_PARAMS = ("agent.log=debug", "agent.log=trace", "systemd.debug-shell", "systemd.debug_shell", "rd.break",
                "rd.shell", "single", "emergency")
# A pod's author could change what is booted or measured with these; others only cost resources.
DANGEROUS = ("path", "kernel", "image", "initrd", "firmware", "kernel_params", "kernel_verity_params", "jailer_path",
             "virtio_fs_daemon", "virtio_fs_extra_args", "guest_hook_path", "ctlpath", "file_mem_backend",
             "enable_debug", ALLOWS_INIT_DATA, "vhost_user_store_path", "entropy_source",
             # What these say goes onto QEMU's command line as it is.
             "machine_accelerators", "cpu_features")
# Of a regular expression. One with more than anchors is not tried out: that could take for ever.
SPECIAL = frozenset(".*+?|()[]{}\\^$")


def security_findings(target: LintTarget) -> Iterator[Finding]:
    """All of them; those that matter for a confidential guest only are not reported of others."""
    yield from _consoles(target)
    yield from _annotations(target)
    if target.text(RUNTIME, "jaeger_password"):
        yield target.finding("security.password", RUNTIME, "jaeger_password", "jaeger_password stands in plain text",
                              "remove it, and give the collector another means")
    if target.text(RUNTIME, "pod_resource_api_sock"):
        yield target.finding("launch.pod-resources", RUNTIME, "pod_resource_api_sock", "pod_resource_api_sock: the "
                              "shim asks the kubelet for devices, which ctr knows nothing of",
                              'write pod_resource_api_sock = ""')
    if target.confidential:
        yield from _snp_policy(target)
        yield from _untrusted_host(target)


def _consoles(target: LintTarget) -> Iterator[Finding]:
    if target.flag(AGENT, "debug_console_enabled"):
        yield target.finding("security.debug-console", AGENT, "debug_console_enabled", "debug_console_enabled: "
                              "`kata-runtime exec` opens a root shell in the guest",
                              "write debug_console_enabled = false")
    words = target.text(QEMU, "kernel_params").split()
    found = [word for word in words if word in DEBUG_PARAMS or word.startswith(("agent.debug_console", "init=/bin/"))]
    if found:
        yield target.finding("security.debug-params", QEMU, "kernel_params",
                              f"kernel_params has {' '.join(found)[:100]}",
                              f"remove {found[0][:60]}")
    devtools = [word for word in words if "devtools" in word.lower()]
    if devtools:
        yield target.finding("security.devtools", QEMU, "kernel_params", f"kernel_params has {devtools[0][:60]}: "
                              "plain attestation lets it pass", "remove it; vmtool gpu cc-mode sets the mode `on`")
    if target.text(QEMU, "extra_monitor_socket"):
        yield target.finding("security.monitor", QEMU, "extra_monitor_socket", "extra_monitor_socket: QEMU can be "
                              "steered from outside",
                              'write extra_monitor_socket = ""')
    for section in (QEMU, AGENT, RUNTIME):
        if target.flag(section, "enable_debug"):
            yield target.finding("security.debug-log", section, "enable_debug", f"enable_debug of [{section}]",
                                  "write enable_debug = false")


def _annotations(target: LintTarget) -> Iterator[Finding]:
    bound = (ALLOWS_INIT_DATA,) if target.confidential else ()  # its digest is in the guest's evidence
    open_ = [word or "everything, by an empty word" for word in target.words(QEMU, "enable_annotations")
             if word not in bound and _is_open(word)]
    if open_:
        yield target.finding("security.annotations", QEMU, "enable_annotations", f"a pod's author may set "
                              f"{', '.join(open_)[:120]}", "write enable_annotations = []")


def _is_open(word: str) -> bool:
    """Whether it allows a dangerous name: the runtime takes each word as a regular expression, which may match any part
    of the name (regexpContains of its oci/utils.go)."""
    plain = word.removeprefix("^").removesuffix("$")
    if set(plain) & SPECIAL:
        return True
    starts, ends = word.startswith("^"), word.endswith("$")
    return any(plain == name if starts and ends else name.startswith(plain) if starts else name.endswith(plain) if ends
               else plain in name for name in DANGEROUS)


def _snp_policy(target: LintTarget) -> Iterator[Finding]:
    policy = target.get(QEMU, "snp_guest_policy")
    if target.tee == SNP.name and isinstance(policy, int) and policy & SNP.qemu.debug_bits:
        yield target.finding("security.snp-policy", QEMU, "snp_guest_policy", f"snp_guest_policy = {policy:#x} lets "
                             "the host debug the guest, and so read it", "write snp_guest_policy = 196608",
                             "fail" if target.asked == SNP.name else "warn")


def _untrusted_host(target: LintTarget) -> Iterator[Finding]:
    share = target.text(QEMU, "shared_fs") or "virtio-fs"
    if share != "none":
        yield target.finding("security.shared-fs", QEMU, "shared_fs", f"by {share} the host can read and change the "
                              "container's files", 'write shared_fs = "none" where the guest pulls images itself; '
                              "with ctr there is no other way")
    if target.text(QEMU, "guest_memory_dump_path"):
        yield target.finding("security.memory-dump", QEMU, "guest_memory_dump_path", "guest_memory_dump_path: what "
                              "the guest keeps secret would lie on the host", 'write guest_memory_dump_path = ""')
