"""The whole way once: `vmtool run` takes an H100 from NVIDIA's driver, a guest of libvirt's gets it, the guest's own
NVIDIA driver binds to it, the proof says so, and `vmtool rm` gives it back.

The kernels, NVIDIA's modules (the host's and the guest's, which `rootfs build` compiled), the IOMMU, vfio-pci, KVM,
containerd, CNI and libvirt are real. The H100's registers are served by vfu.py, so no GPU computes anything; the
processor with its virtualization is QEMU's emulation; and a stand-in answers in vLLM's place.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import guest_builds
from tests.integration.machine import Vmtool
from tests.lab import topology
from tests.lab.cache import LabError
from tests.lab.conftest import skip_unless_possible
from tests.lab.gpuhost import drivers, listed, settings
from tests.lab.launchhost import IMAGE, PAYLOAD, make_payload, prepare_launch_host
from tests.lab.vm import LabVm

PAIR = ("0000:01:00.0", "0000:02:00.0")
NAME = "gpu"
CONSOLE = f"/var/lib/vmtool/instances/{NAME}/log/console.log"
SPEC = {"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": NAME}, "spec": {
    "runtime": {"handler": "libvirt", "tee": "none", "libvirt": {"image": f"{PAYLOAD}/rootfs.img"}},
    "allow_unconfidential": True, "image": IMAGE,
    "model": {"name": "standin", "path": f"{PAYLOAD}/model"},
    "resources": {"memory": "1Gi", "cpus": 2, "accelerators": {"count": 1, "type": "nvidia-h100"}},
    # What the stand-in answers is what a process in the workload's sandbox sees of the device.
    "canary": {"prompt": "Which NVIDIA devices are there?", "expect": "0x2330 nvidia; libcuda.so.1"},
    # With one core to itself the guest's agent answers after a minute, and the stand-in after half of one.
    "timeouts": {"boot": 600, "start": 600, "canary": 120},
}}
# What a launch or a guest could leave, beside the GPU's settings.
FOOTPRINT = """virsh list --all --name; ip -br link | cut -d' ' -f1; ip netns; pgrep -x qemu-system-x86 || :
    iptables-save | grep -e vmt -e CNI || :
    cd /var/lib/vmtool; find instances domains networks gpu -mindepth 1 -not -type d 2>&- || :"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def host() -> Iterator[LabVm]:
    """A machine with two H100s, libvirt and containerd, and the workload's image in it."""
    skip_unless_possible()
    try:
        lab = prepare_launch_host(print)
    except LabError as error:
        pytest.skip(f"the lab's parts cannot be made: {str(error).splitlines()[0]}")
    with tempfile.TemporaryDirectory(prefix="vmtool-lab-", dir="/var/tmp") as directory:  # the images outgrow a tmpfs
        scratch = Path(directory)
        with guest_builds():
            Vmtool(scratch / "state")("rootfs", "build", "rootfs-debian-nvidia", "-o", scratch / "rootfs.img",
                                      timeout=2400)
        make_payload(scratch / "payload.img", scratch, scratch / "rootfs.img", print)
        with LabVm(lab, topology.LAUNCH_HOST, disks=[scratch / "payload.img"]) as vm:
            vm.sh(f"mkdir -p {PAYLOAD}; mount -o ro /dev/vdb {PAYLOAD}")
            vm.put("/root/gpu.yaml", yaml.safe_dump(SPEC).encode())
            imported = vm.vmtool("image", "import", f"{PAYLOAD}/standin.tar", deadline=600)
            assert imported.status == 0, imported.err
            yield vm


def claims(vm: LabVm, status: int = 0) -> dict[str, tuple[str, str]]:
    """Verdict and evidence by claim, as `vmtool status --proof` tells them."""
    told = vm.vmtool("status", NAME, "--proof", "--json", deadline=600)
    assert told.status == status, told.err
    return {claim["id"]: (claim["verdict"], claim["evidence"]) for claim in json.loads(told.out)["claims"]}


def test_an_h100_goes_to_a_guest_whose_own_driver_binds_to_it_and_comes_back(host: LabVm) -> None:
    before = settings(host, *PAIR), host.sh(FOOTPRINT)
    assert drivers(host, *PAIR) == ["nvidia", "nvidia"]
    ran = host.vmtool("run", "gpu.yaml", deadline=1800)
    print(ran.err, ran.out)
    assert ran.status == 0, ran.err
    assert drivers(host, *PAIR) == ["vfio-pci", "nvidia"]

    found = claims(host)
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "process.running": "proven", "tee": "failed", "vm.kvm": "proven", "vm.no-debugger": "proven",
        "vm.devices": "proven", "vm.kernel": "proven", "vm.program": "proven", "configuration.unchanged": "proven",
        "image.bytes": "proven", "guest.tee": "not-checked", "guest.cmdline": "proven",
        "guest.root-read-only": "proven", "workload.hardening": "proven", "gpu.driver-in-guest": "proven",
        "gpu.libraries": "proven", "gpu.cc-status": "not-checked", "gpu.driver-on-host": "proven",
        "gpu.viable": "proven", "canary": "proven", "vllm.arguments": "not-checked",
        "vllm.powers": "not-checked"}
    assert "libcuda.so.1" in found["gpu.libraries"][1]
    assert PAIR[0] in found["vm.devices"][1]
    assert "1 bound to nvidia of 1 passed devices" in found["gpu.driver-in-guest"][1]
    assert "module nvidia 535." in found["gpu.driver-in-guest"][1]
    assert b"NVRM: loading NVIDIA UNIX Open Kernel Module" in host.get(CONSOLE)
    assert listed(host, PAIR[0])["state"] == "in-use"
    refused = host.vmtool("gpu", "release", PAIR[0])
    assert (refused.status, "qemu-system-x86" in refused.err) == (3, True), refused.err

    removed = host.vmtool("rm", "--yes", NAME, deadline=300)
    assert removed.status == 0, removed.err
    assert drivers(host, *PAIR) == ["nvidia", "nvidia"]
    assert (settings(host, *PAIR), host.sh(FOOTPRINT)) == before


@pytest.mark.timing
def test_an_h100_comes_back_from_a_guest_that_was_killed_as_it_booted(host: LabVm) -> None:
    before = settings(host, *PAIR), host.sh(FOOTPRINT)
    running = host.start(["vmtool", "run", "--keep-on-failure", "gpu.yaml"], deadline=1800)
    host.sh(f"until [ -s {CONSOLE} ]; do sleep 0.5; done", deadline=600)
    assert host.kill9(f"guest=vmtool-{NAME}")
    failed = running.wait(300)
    assert (failed.status, "the guest ended" in failed.err) == (1, True), failed.err
    found = claims(host, status=1)
    assert [found[name][0] for name in ("process.running", "vm.gone", "gpu.free")] == ["failed", "proven", "proven"]

    again = host.vmtool("run", "gpu.yaml", deadline=1800)
    assert again.status == 0, again.err
    assert "clear what the earlier launch left" in again.err
    assert drivers(host, *PAIR) == ["vfio-pci", "nvidia"]
    host.vmtool("stop", NAME, deadline=300)
    removed = host.vmtool("rm", NAME, deadline=300)
    assert removed.status == 0, removed.err
    assert drivers(host, *PAIR) == ["nvidia", "nvidia"]
    assert (settings(host, *PAIR), host.sh(FOOTPRINT)) == before
