"""A launch with handler kata, real up to the shim: containerd, CNI and ctr are real, the shim is a stand-in.

What is behind it is no VM, so this shows what the shim is asked for and what follows when it starts something else
than was asked for. This machine's lacks (KVM, vsock, virtCCA) are left out of the facts.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import struct
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.launches import Found, launched
from tests.integration.machine import Vmtool, footprint
from tests.unit.launch.cases import MODEL
from vmtool.claims import Claim
from vmtool.containerd.endpoint import choose_endpoint
from vmtool.doctor.host import HostFacts, read_host
from vmtool.engine import transactions
from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.host import processes
from vmtool.host.local import LocalMachine
from vmtool.image.pinned_image import read_image
from vmtool.instance.read import read_instance
from vmtool.isolation import ENVIRONMENT, PATH
from vmtool.kata.config_choice import ConfigChoice
from vmtool.kata.facts import target_of
from vmtool.kata.request_facts import read_request
from vmtool.kata.shims import KataFacts, KataShim
from vmtool.launch.claims import read_claims
from vmtool.launch.pipeline import plan_launch
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.proof.hardening import WANTED
from vmtool.spec.runtime import Spec
from vmtool.tee.tee import TeeSupport

STANDIN = Path(__file__).with_name("standin_shim.py")
IMAGE = "docker.io/vmtool/nothing:latest"


# What the workload's first process says of itself when it is as it must be.
GOOD = "".join(f"/proc/1/status:{name}:\t{value}\n" for name, value in {"Uid": "65532", **WANTED}.items())


class Silent:
    """A monitor that tells nobody."""

    def step(self, title: str) -> None: ...
    def skipped(self, title: str, why: str) -> None: ...
    def note(self, text: str) -> None: ...
    def done(self, seconds: float) -> None: ...


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the stand-ins for the shim and for QEMU; the shim is on the PATH of a private containerd."""
    if os.geteuid():
        pytest.skip("needs root")
    directory = Path("/run") / f"vmtest-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    shim, qemu = directory / "containerd-shim-kata-v2", directory / "qemu-system-aarch64"
    shim.write_text(f'#!/bin/sh\nexport STANDIN_DIR={directory}\nexec {sys.executable} {STANDIN} "$@"\n')
    shim.chmod(0o755)
    shutil.copy("/bin/dash", qemu)
    os.mkfifo(directory / "never")
    (directory / "behaviour").write_text("stock")
    monkeypatch.setattr(processes, "ENVIRONMENT", ENVIRONMENT | {"PATH": f"{directory}:{PATH}"})
    return directory


@pytest.fixture
def vmtool(own_state: Vmtool, standin: Path, tmp_path: Path) -> Iterator[Vmtool]:
    """A state directory with an image of one empty layer; everything is as before afterwards."""
    own_state("image", "import", empty_image(tmp_path / "image.tar"))
    yield own_state
    assert remains(own_state, standin) == []
    shutil.rmtree(standin)


def remains(vmtool: Vmtool, standin: Path) -> list[str]:
    """What is left of this test's instance; other tests' networks and daemons do not matter here."""
    marks = ("chat", str(standin), str(vmtool.state), str(State(vmtool.state).run))
    return [line for line in json.dumps(footprint(), indent=0).splitlines() if any(mark in line for mark in marks)]


def empty_image(path: Path) -> Path:
    """An OCI archive with one empty layer."""
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, Any]:
        digest = sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer_ = add(layer.getvalue(), "layer.v1.tar")
    config = add(json.dumps({"architecture": "amd64", "os": "linux", "config": {"User": "65532"}, "rootfs": {
        "type": "layers", "diff_ids": [layer_["digest"]]}}).encode(), "config.v1+json")
    manifest = add(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": config, "layers": [layer_]}).encode(), "manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [manifest | {"annotations": {"io.containerd.image.name": IMAGE}}]}
    with tarfile.open(path, "w") as archive:
        for name, data in (("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
                           ("index.json", json.dumps(index).encode()), *blobs.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def host(state: State, standin: Path) -> HostFacts:
    """This machine, as if it were an arm64 one with virtCCA and the patched Kata."""
    found = read_host(LocalMachine(), state.root, guests=False)
    config = ConfigChoice("/etc/kata-containers/configuration.toml", "default")
    shim = KataShim("io.containerd.kata.v2", str(standin / "containerd-shim-kata-v2"), None, True, "Go", "3.15.0", None,
                    True, config)
    settings = dict.fromkeys((*found.kernel.config, "VHOST_VSOCK"), "y")
    kernel = replace(found.kernel, config=settings, page_size=4096, release="6.6.0", cmdline=(
        "virtcca_cvm_host=1", "arm_smmu_v3.disable_ecmdq=1", "vfio_pci.disable_idle_d3=1"))
    return replace(found, kernel=kernel, cpu=replace(found.cpu, arch="aarch64"), kata=KataFacts((shim,), ()),
                   kvm=replace(found.kvm, verdict="runs", vhost_vsock=True), iommu=replace(found.iommu, groups=1),
                   tee=found.tee | {"virtcca": TeeSupport(True, ("said so",))})


def undertake(vmtool: Vmtool, standin: Path, tee: str) -> None:
    """What `vmtool run` does, with those facts."""
    state = State(vmtool.state)
    asset = str(standin / "never")
    shared = standin / "libexec"
    shared.mkdir(exist_ok=True)
    (shared / "virtiofsd").touch()
    image = standin / "guest.img"
    image.write_bytes(partitioned())
    (standin / "guest.img.manifest.json").write_text(json.dumps({"sha256": sha256(partitioned()).hexdigest()}))
    spec = Spec.model_validate({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "chat"}, "spec": {
        "runtime": {"handler": "kata", "tee": tee, "kata": {
            "version": "3.15-virtcca", "prefix": str(standin), "qemu": str(standin / "qemu-system-aarch64"),
            "kernel": asset, "image": str(image)}},
        "allow_unconfidential": True, "image": IMAGE, "model": {"name": "m", "path": str(standin)},
        "resources": {"memory": "1Gi", "cpus": 1}}})

    def make() -> Plan:
        found = host(state, standin)
        target = target_of(found.cpu, found.memory, found.kata)
        endpoint = choose_endpoint(state, bool(found.containerd.answers))
        facts = Found(found, MODEL, None, read_request(LocalMachine(), spec.spec, target),
                      image=read_image(LocalMachine(), state, endpoint, spec.spec.image))
        return plan_launch(*launched(state, spec, facts, timeout=300))

    transactions.run_transaction(state, state.instance("chat"), "test", make, Silent(), keep=False)


def partitioned() -> bytes:
    """The first bytes of an image in Kata's layout."""
    data = bytearray(128 << 20)
    data[510:512], data[450], data[454:462] = b"\x55\xaa", 0x83, struct.pack("<II", 3 << 20 >> 9, 125 << 20 >> 9)
    return bytes(data)


def test_a_shim_that_starts_an_ordinary_vm_is_torn_down_with_exit_code_4(vmtool: Vmtool, standin: Path) -> None:
    with pytest.raises(VerificationFailed) as error:
        undertake(vmtool, standin, "virtcca")
    assert error.value.code == 4
    assert "a stock shim ignores confidential_guest" in "\n".join(error.value.details)
    assert processes.start_time(int((standin / "qemu.pid").read_text())) is None
    evidence = vmtool.state / "instances" / "chat" / "evidence" / "qemu.txt"
    assert "sandbox-chat,debug-threads=on" in evidence.read_text()
    assert not (standin / "key").exists(), "the wrong guest never had the key"
    vmtool("rm", "--yes", "chat")


def test_what_the_shim_is_asked_for(vmtool: Vmtool, standin: Path) -> None:
    with pytest.raises(VerificationFailed):
        undertake(vmtool, standin, "virtcca")
    asked = json.loads((standin / "asked.json").read_text())
    assert (asked["id"], asked["type"]) == ("chat", "runtimeoptions.v1.Options")
    assert asked["config_path"] == str(vmtool.state / "instances" / "chat" / "kata" / "configuration.toml")
    spec = asked["spec"]
    assert spec["root"]["readonly"] is True
    assert spec["process"]["noNewPrivileges"] is True
    assert not any(spec["process"]["capabilities"].values())
    assert "limit" not in spec["linux"]["resources"].get("memory", {}), "Kata would add it to the VM's size"
    [network] = [item for item in spec["linux"]["namespaces"] if item["type"] == "network"]
    assert network["path"] == "/var/run/netns/vmtool-chat"
    assert spec["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not any("secret" in mount["source"] for mount in spec["mounts"])
    vmtool("rm", "--yes", "chat")


def test_a_patched_shim_passes_the_look(vmtool: Vmtool, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look is passed. Nobody answers on /health: the test ends the launch once it has seen enough, and it is undone
    as well."""
    (standin / "behaviour").write_text("patched")
    (standin / "says").write_text(GOOD)
    claims: dict[str, str] = {}
    keys: list[bytes] = []

    def look(self: Silent, text: str) -> None:
        instance = read_instance(State(vmtool.state), "chat")
        if not keys:
            claims.update({claim.id: claim.verdict for claim in read_claims(LocalMachine(), instance, whole=True)})
            keys.extend(((standin / "key").read_bytes(), instance.paths.access.read_bytes()))
            raise VmtoolError("seen enough")

    monkeypatch.setattr(Silent, "note", look)
    with pytest.raises(VmtoolError, match="seen enough"):
        undertake(vmtool, standin, "virtcca")
    assert {name for name, verdict in claims.items() if verdict == "proven"} >= {
        "vm.tee", "vm.kvm", "vm.program", "vm.kernel", "vm.devices", "configuration.unchanged"}
    assert {name: claims[name] for name in ("tee", "guest.tee", "image.bytes", "process.hardening", "vm.image")} == {
        "tee": "not-checked", "guest.tee": "not-checked",
        "image.bytes": "proven", "process.hardening": "proven", "vm.image": "proven"}
    assert keys[0] == keys[1]
    vmtool("rm", "--yes", "chat")


def look(vmtool: Vmtool) -> dict[str, Claim]:
    """A plain look at the instance."""
    return {claim.id: claim for claim in read_claims(LocalMachine(), read_instance(State(vmtool.state), "chat"))}


@pytest.mark.timing
def test_a_vm_that_died_is_told_and_removed(vmtool: Vmtool, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (standin / "behaviour").write_text("patched")
    (standin / "says").write_text(GOOD)

    def kill_the_vm(self: Silent, text: str) -> None:
        if processes.start_time(pid := int((standin / "qemu.pid").read_text())):
            os.kill(pid, signal.SIGKILL)
            while "vm.gone" not in look(vmtool):
                time.sleep(0.05)
            assert {name: claim.verdict for name, claim in look(vmtool).items()} == {
                "process.running": "failed", "vm.gone": "proven", "canary": "not-checked"}

    monkeypatch.setattr(Silent, "note", kill_the_vm)
    with pytest.raises(VmtoolError, match="the container ended before it was healthy"):
        undertake(vmtool, standin, "virtcca")
    vmtool("rm", "--yes", "chat")


@pytest.mark.timing
def test_a_qemu_whose_shim_died_is_ended_by_rm(vmtool: Vmtool, standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM outlives its shim: it still runs for `status`, which says so, and is gone after the undo."""
    (standin / "behaviour").write_text("patched")
    left: list[int] = []

    def kill_the_shim(self: Silent, text: str) -> None:
        if not left:
            assert look(vmtool)["task.running"].verdict == "proven"
            os.kill(int((standin / "shim.pid").read_text()), signal.SIGKILL)
            left.append(int((standin / "qemu.pid").read_text()))
            while look(vmtool)["task.running"].verdict == "proven":
                time.sleep(0.05)
            assert "only vmtool rm chat ends what runs" in look(vmtool)["task.running"].evidence
            assert look(vmtool)["process.running"].verdict == "proven"
            assert processes.start_time(left[0])

    monkeypatch.setattr(Silent, "note", kill_the_shim)
    with pytest.raises(VmtoolError, match="it gets no key"):
        undertake(vmtool, standin, "virtcca")
    assert left
    assert processes.start_time(left[0]) is None
    vmtool("rm", "--yes", "chat")


def test_a_machine_without_kata_exits_with_3_and_starts_nothing(own_state: Vmtool, tmp_path: Path) -> None:
    if shutil.which("containerd-shim-kata-v2"):
        pytest.skip("this machine has Kata")
    model, spec = tmp_path / "model", tmp_path / "spec.yaml"
    model.mkdir(mode=0o755)
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    spec.write_text("apiVersion: vmtool/v1\nkind: Runtime\nmetadata: {name: chat}\nspec:\n  runtime: {handler: kata, "
                    f"tee: snp}}\n  model: {{name: m, path: {model}}}\n")
    ran = own_state("run", spec, status=3)
    assert "no containerd-shim-kata*-v2 found" in ran.err
    assert "hint: vmtool doctor --for kata --tee snp" in ran.err
    assert remains(own_state, tmp_path) == []
