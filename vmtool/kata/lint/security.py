"""What opens the guest to whoever has the host."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding
from vmtool.kata.lint.rules import AGENT, QEMU, RUNTIME, Subject

DEBUG_PARAMS = ("agent.log=debug", "agent.log=trace", "systemd.debug-shell", "systemd.debug_shell", "rd.break",
                "rd.shell", "single", "emergency")
# A pod's author could change what is booted or measured with these; others only cost resources.
DANGEROUS = ("path", "kernel", "image", "initrd", "firmware", "kernel_params", "kernel_verity_params", "jailer_path",
             "virtio_fs_daemon", "virtio_fs_extra_args", "guest_hook_path", "ctlpath", "file_mem_backend",
             "enable_debug", "cc_init_data")


def security_findings(subject: Subject) -> Iterator[Finding]:
    """All of them; those that matter for a confidential guest only are not told of others."""
    yield from _consoles(subject)
    yield from _annotations(subject)
    if subject.text(RUNTIME, "jaeger_password"):
        yield subject.finding("security.password", RUNTIME, "jaeger_password", "jaeger_password stands in plain text",
                              "remove it, and give the collector another means")
    if subject.text(RUNTIME, "pod_resource_api_sock"):
        yield subject.finding("launch.pod-resources", RUNTIME, "pod_resource_api_sock", "pod_resource_api_sock: the "
                              "shim asks the kubelet for devices, which ctr knows nothing of",
                              'write pod_resource_api_sock = ""')
    if subject.confidential:
        yield from _untrusted_host(subject)


def _consoles(subject: Subject) -> Iterator[Finding]:
    if subject.flag(AGENT, "debug_console_enabled"):
        yield subject.finding("security.debug-console", AGENT, "debug_console_enabled", "debug_console_enabled: "
                              "`kata-runtime exec` opens a root shell in the guest",
                              "write debug_console_enabled = false")
    words = subject.text(QEMU, "kernel_params").split()
    found = [word for word in words if word in DEBUG_PARAMS or word.startswith(("agent.debug_console", "init=/bin/"))]
    if found:
        yield subject.finding("security.debug-params", QEMU, "kernel_params",
                              f"kernel_params has {' '.join(found)[:100]}",
                              f"remove {found[0][:60]}")
    devtools = [word for word in words if "devtools" in word.lower()]
    if devtools:
        yield subject.finding("security.devtools", QEMU, "kernel_params", f"kernel_params has {devtools[0][:60]}: "
                              "plain attestation lets it pass", "remove it; vmtool gpu cc-mode sets the mode `on`")
    if subject.text(QEMU, "extra_monitor_socket"):
        yield subject.finding("security.monitor", QEMU, "extra_monitor_socket", "extra_monitor_socket: QEMU can be "
                              "steered from outside",
                              'write extra_monitor_socket = ""')
    for section in (QEMU, AGENT, RUNTIME):
        if subject.flag(section, "enable_debug"):
            yield subject.finding("security.debug-log", section, "enable_debug", f"enable_debug of [{section}]",
                                  "write enable_debug = false")


def _annotations(subject: Subject) -> Iterator[Finding]:
    # The runtime takes each entry as a regular expression.
    words = subject.words(QEMU, "enable_annotations")
    open_ = [word for word in words if word in DANGEROUS or set(word) & set(".*[(+?")]
    if open_:
        yield subject.finding("security.annotations", QEMU, "enable_annotations", f"a pod's author may set "
                              f"{', '.join(open_)[:120]}", "write enable_annotations = []")


def _untrusted_host(subject: Subject) -> Iterator[Finding]:
    share = subject.text(QEMU, "shared_fs") or "virtio-fs"
    if share != "none":
        yield subject.finding("security.shared-fs", QEMU, "shared_fs", f"by {share} the host can read and change the "
                              "container's files", 'write shared_fs = "none" where the guest pulls images itself; '
                              "with ctr there is no other way")
    if subject.text(QEMU, "guest_memory_dump_path"):
        yield subject.finding("security.memory-dump", QEMU, "guest_memory_dump_path", "guest_memory_dump_path: what "
                              "the guest keeps secret would lie on the host", 'write guest_memory_dump_path = ""')
