"""Guests that libvirt starts, for real: under TCG where KVM runs none. vLLM would take minutes there: a stand-in
answers for it, or in a slow test the server on transformers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import IMAGE, MakeSpec, guest_builds
from tests.integration.key_broker import RESOURCE, Broker, Encrypted
from tests.integration.kills import killed, planned, until_health
from tests.integration.libvirt_daemons import SOCKET, libvirt_daemons
from tests.integration.machine import Vmtool, footprint, kill_containerd, output
from vmtool.libvirt.workers import start_domain
from vmtool.plan.workers import name_of
from vmtool.rootfs.format.image_file import read_image
from vmtool.serving.train_canary import PAIRS

NAME = "guest"
PORT = 18471
# Its firmware measures what it boots.
MEASURED: dict[str, object] = {"tpm": True, "firmware": "/usr/share/OVMF/OVMF_CODE.fd"}
# And that the root hashes of its disks.
SEALED = MEASURED | {"verity": True}
# Who certifies the TPMs that swtpm_setup makes on this host.
TPM_MAKER = Path("/var/lib/swtpm-localca")


@pytest.fixture(scope="module")
def image(vmtool: Vmtool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guest image that the shipped recipe gives, where QEMU's own user may read it."""
    directory = Path(tempfile.mkdtemp(prefix="vmtool-guest-", dir="/var/tmp"))  # others must get through
    directory.chmod(0o711)
    with guest_builds():
        vmtool("rootfs", "build", "rootfs-minimal", "-o", directory / "rootfs.img", timeout=1200)
    yield directory / "rootfs.img"
    shutil.rmtree(directory)


MakeGuest = Callable[..., Path]


@pytest.fixture
def make_guest(make_spec: MakeSpec, image: Path) -> MakeGuest:
    """Write the spec of a guest: `make_guest(port=..., libvirt={...})`."""

    def make(port: int | None = None, libvirt: dict[str, object] | None = None, **changes: object) -> Path:
        runtime = {"handler": "libvirt", "libvirt": {"image": str(image), "uri": "embed"} | (libvirt or {})}
        body = {"runtime": runtime, "timeouts": {"boot": 800, "start": 800, "canary": 300},
                "resources": {"memory": "2560Mi", "cpus": 2}}
        return make_spec(NAME, port, **(body | changes))

    return make


@pytest.fixture
def nothing_left(vmtool: Vmtool) -> Iterator[None]:
    """The machine is afterwards as it was before, also when a test fails half-way."""
    before = footprint()
    yield
    vmtool("recover", status=None)
    if (vmtool.state / "instances" / NAME).exists():
        vmtool("rm", "--yes", NAME)
    assert footprint() == before
    assert gone()
    assert not any((vmtool.state / "domains").glob("*"))


def qemus() -> list[str]:
    """The pids of vmtool's domains."""
    return output("pgrep", "-f", f"guest=vmtool-{NAME}").split()


def gone() -> bool:
    """Whether no domain is left; one that was killed takes a moment."""
    end = time.monotonic() + 60
    while (found := qemus()) and time.monotonic() < end:
        time.sleep(0.1)
    return not found


def registers(reference: str) -> list[str]:
    """The lines of a reference with the registers that a boot leads to."""
    return [line for line in reference.splitlines() if line.startswith(("      4: ", "      9: "))]


def with_one_byte_changed(kernel: Path) -> Path:
    """The kernel with another version in its setup header, which no boot depends on."""
    data = bytearray(kernel.read_bytes())
    at = 0x200 + int.from_bytes(data[0x20e:0x210], "little")
    data[at] ^= 1
    changed = kernel.with_name("changed.vmlinuz")
    changed.write_bytes(data)
    return changed


def measured(vmtool: Vmtool, reference: str, status: int) -> str:
    """The verdict on the running guest when it must show these values, and why."""
    kept = vmtool.state / "instances" / NAME / "evidence/reference.yaml"
    before = kept.read_text()
    kept.write_text(reference)
    [claim] = [claim for claim in vmtool("status", NAME, "--proof", "--json", status=status).json["claims"]
               if claim["id"] == "guest.measured"]
    kept.write_text(before)
    return f"{claim['verdict']}: {claim['evidence']}"


class TpmBroker(Broker):
    """Releases a model's key to a guest whose TPM shows the boot of a reference, and another one to another boot."""

    def __init__(self, vmtool: Vmtool, directory: Path, encrypted: Encrypted) -> None:
        key = encrypted.owner.key
        super().__init__(vmtool, directory, {
            RESOURCE: (key, {"tee": ["tpm"], "reference": "right.yaml"}),
            "demo/other/key": (key, {"tee": ["tpm"], "reference": "other.yaml"})}, roots="roots")
        (directory / "roots").mkdir()
        if not TPM_MAKER.joinpath("issuercert.pem").exists():
            subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", directory, "--create-ek-cert"], check=True,
                           timeout=60)
        (directory / "roots" / "tpm-local.pem").write_bytes(b"".join(
            (TPM_MAKER / name).read_bytes() for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem")))
        self.guest = self.spec(encrypted)

    def release_to(self, right: str, other: str) -> None:
        """By these references."""
        (self.directory / "right.yaml").write_text(right)
        (self.directory / "other.yaml").write_text(other)


@pytest.fixture
def broker(vmtool: Vmtool, nothing_left: None, model: Path, tmp_path: Path) -> Iterator[TpmBroker]:
    try:
        yield TpmBroker(vmtool, tmp_path, Encrypted(tmp_path, vmtool, model))
    finally:
        if (vmtool.state / "instances" / NAME).exists():
            vmtool("rm", "--yes", NAME)
        vmtool("net", "del", "broker", status=None)


def test_the_image_boots_serves_and_is_proven(vmtool: Vmtool, make_guest: MakeGuest, model: Path, image: Path,
                                              broker: TpmBroker) -> None:
    """Its model is encrypted, and the key goes to a quote of the guest's TPM: the entrypoint in it asks the broker."""
    kernel = with_one_byte_changed(image.with_name(f"{image.name}.vmlinuz"))
    other = vmtool("attest", "reference", make_guest(PORT, libvirt=SEALED | {
        "kernel": str(kernel), "kernel_params": ["other=1"]}, vllm={"env": {"OMP_NUM_THREADS": "1"}},
        **broker.guest)).out
    spec = make_guest(PORT, libvirt=SEALED, **broker.guest)
    reference = vmtool("attest", "reference", spec).out
    broker.release_to(reference, other)
    with broker.running():
        vmtool("run", spec, timeout=900)
    granted, released = broker.audited()
    assert (granted["step"], granted["verdict"], granted["tee"]) == ("attest", "granted", "tpm")
    assert granted["resources"] == [released["resource"]] == [RESOURCE], "a guest that booted something else"
    assert "evidence is by the TPM (/dev/tpmrm0)" in vmtool("logs", NAME).out
    status = vmtool("status", NAME, "--proof", "--json").json
    claims = {claim["id"]: claim["verdict"] for claim in status["claims"]}
    assert claims.pop("vm.kvm") in ("proven", "not-checked")  # emulated where KVM runs no guests
    assert claims == {
        "process.running": "proven", "tee": "failed", "vm.no-debugger": "proven", "vm.devices": "proven",
        "vm.kernel": "proven", "vm.program": "proven", "image.bytes": "proven", "configuration.unchanged": "proven",
        "guest.tee": "not-checked", "guest.cmdline": "proven", "guest.root-read-only": "proven",
        "guest.disks": "proven", "model.signature": "proven", "model.encrypted": "proven",
        "guest.measured": "proven", "workload.hardening": "proven", "image.digest": "proven", "canary": "proven",
        "vllm.arguments": "not-checked",
        "vllm.powers": "not-checked"}
    canary = json.loads((model / "canary.json").read_text())
    assert vmtool("chat", NAME, canary["prompt"]).out.strip() == canary["expect"]
    assert "runs already" in vmtool("run", spec).out
    assert "vLLM answers" in vmtool("logs", NAME).out
    assert "lets nobody run commands" in vmtool("exec", NAME, "--", "id", status=2).err
    # The address is the guest's: nothing of the workload is in the namespace that CNI gave it to.
    assert output("ip", "netns", "pids", f"vmtool-{NAME}") == ""

    assert measured(vmtool, reference, 0).startswith("proven: sha256:4,9 as computed before the start")
    assert len(registers(reference)) == len(set(registers(reference)) - set(registers(other))) == 2
    failed = measured(vmtool, other, 4)
    assert failed.startswith("failed: tpm.measurement: "), failed
    for named in ("the kernel, or the initrd's size in its header, is another", "the command line is not", "other=1",
                  "the initrd is another"):
        assert named in failed
    vmtool("stop", NAME)
    assert gone()
    assert vmtool("status", NAME, "--json", status=1).json["instance"]["state"] == "stopped"
    vmtool("rm", NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("change", "named"), [
    ({"libvirt": {"kernel": "changed"}}, "the kernel is another"),
    ({"libvirt": {"kernel_params": ["other=1"]}}, "the command line is not"),
    ({"vllm": {"env": {"OMP_NUM_THREADS": "1"}}}, "the initrd is another")], ids=["kernel", "command line", "initrd"])
def test_a_guest_that_booted_something_else_fails(vmtool: Vmtool, make_guest: MakeGuest, image: Path,
                                                  change: dict[str, dict[str, object]], named: str) -> None:
    reference = vmtool("attest", "reference", make_guest(PORT, libvirt=MEASURED)).out
    settings = MEASURED | change.get("libvirt", {})
    if "kernel" in settings:
        settings["kernel"] = str(with_one_byte_changed(image.with_name(f"{image.name}.vmlinuz")))
    vmtool("run", make_guest(PORT, libvirt=settings, **({"vllm": change["vllm"]} if "vllm" in change else {})),
           timeout=900)
    failed = measured(vmtool, reference, 4)
    assert failed.startswith("failed: tpm.measurement: "), failed
    assert named in failed
    # QEMU fills an initrd's size into the kernel's header, so that one of another size is in that register as well.
    expected = 2 if "initrd" in named else 1
    assert failed.count(" is another") + failed.count(" is not ") == expected, failed
    vmtool("rm", "--yes", NAME)


@pytest.mark.slow
def test_a_guest_that_verifies_its_disks_serves_an_encrypted_model(vmtool: Vmtool, make_guest: MakeGuest,
                                                                  broker: TpmBroker) -> None:
    """By the server on transformers, which really decrypts it: the answers are the plain model's."""
    sealed = broker.guest | {"image": IMAGE}
    sealed["model"] = sealed["model"] | {"engine": "transformers"}
    spec = make_guest(PORT, libvirt=SEALED, **sealed)
    reference = vmtool("attest", "reference", spec).out
    broker.release_to(reference, reference)
    with broker.running():
        vmtool("run", spec, timeout=900)
        assert "transformers answers" in vmtool("logs", NAME).out
        claims = {claim["id"]: claim for claim in vmtool("status", NAME, "--json").json["claims"]}
        assert claims["guest.disks"]["verdict"] == claims["model.encrypted"]["verdict"] == "proven", claims
        for question, answer in PAIRS[:3]:
            assert vmtool("chat", NAME, question).out.strip() == answer
        vmtool("rm", "--yes", NAME)


@pytest.mark.slow
def test_a_guest_that_booted_something_else_gets_no_key(vmtool: Vmtool, make_guest: MakeGuest,
                                                       broker: TpmBroker) -> None:
    reference = vmtool("attest", "reference", make_guest(PORT, libvirt=SEALED, **broker.guest)).out
    broker.release_to(reference, reference)
    with broker.running():
        failed = vmtool("run", make_guest(PORT, libvirt=SEALED | {"kernel_params": ["other=1"]}, **broker.guest),
                        status=4, timeout=900)
    assert "no key for the model came from its broker: attest: the broker refused: AttestationError" in failed.err
    [refused] = broker.audited()
    assert refused["verdict"] == "refused" and "tpm.measurement" in str(refused["why"]), refused


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_guest_does_not_read_an_altered_disk(vmtool: Vmtool, make_guest: MakeGuest, image: Path) -> None:
    altered = image.with_name("altered.img")
    for name in ("", ".vmlinuz", ".manifest.json"):
        shutil.copyfile(f"{image}{name}", f"{altered}{name}")
    rootfs = read_image(altered).rootfs
    assert rootfs
    with altered.open("r+b") as file:
        # ext4 leaves its first KiB to boot loaders: a guest without verity would not notice.
        file.seek(rootfs.start + 100)
        file.write(b"\1")
    failed = vmtool("run", make_guest(libvirt={"verity": True, "image": str(altered)}), status=1, timeout=900)
    assert "is corrupted" in failed.err
    assert "ended" in failed.err


@pytest.mark.timing
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("event", "qemu"), [("begin", 0), ("end", 1)], ids=["as QEMU starts", "when QEMU runs"])
def test_sigkill_leaves_no_guest_behind(vmtool: Vmtool, make_guest: MakeGuest, event: str, qemu: int) -> None:
    spec, before = make_guest(), footprint()
    [point] = [line for line in planned(vmtool, spec)
               if line.startswith(event) and name_of(start_domain.__name__) in line]
    assert killed(vmtool, point, "run", spec)
    assert len(found := qemus()) == qemu, [output("ps", "-o", "args=", "-p", pid) for pid in found]
    assert vmtool("ps", "--json").json["instances"][0]["state"] == "interrupted"
    kill_containerd(vmtool)
    vmtool("recover")
    assert gone()
    assert footprint() == before


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.usefixtures("nothing_left")
def test_sigkill_at_every_action(vmtool: Vmtool, make_guest: MakeGuest) -> None:
    spec, before = make_guest(), footprint()
    points = planned(vmtool, spec)
    for point in points[:until_health(points) + 1]:
        assert killed(vmtool, point, "run", spec), point
        vmtool("recover")
        assert gone(), point
        assert footprint() == before, point


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.slow
def test_a_guest_that_dies_is_told_and_its_leavings_are_removed(vmtool: Vmtool, make_guest: MakeGuest) -> None:
    failed = vmtool("run", "--timeout", "1", "--keep-on-failure", make_guest(), status=1)
    assert "not healthy after 1 s" in failed.err
    [pid] = qemus()
    os.kill(int(pid), signal.SIGKILL)
    assert gone()
    claims = vmtool("status", NAME, "--json", status=1).json["claims"]
    assert [claim["verdict"] for claim in claims if claim["id"] == "process.running"] == ["failed"]
    vmtool("rm", NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_workload_that_ends_takes_the_guest_along(vmtool: Vmtool, make_guest: MakeGuest, model: Path,
                                                    tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for path in (tmp_path, broken):
        path.chmod(0o755)
    spec = make_guest(image=IMAGE, model={"name": "canary", "path": str(broken), "engine": "transformers"})
    failed = vmtool("run", spec, status=1, timeout=900)
    assert "the container ended before it was healthy" in failed.err
    assert "vmtool-workload.service: Main process exited" in failed.err


@pytest.fixture
def libvirtd(tmp_path: Path) -> Iterator[None]:
    if SOCKET.exists():
        pytest.skip(f"a libvirt has {SOCKET} already")
    with libvirt_daemons(tmp_path):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left", "libvirtd")
def test_the_systems_libvirt_runs_qemu_as_its_own_user(make_guest: MakeGuest, image: Path, model: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="vmtool-state-", dir="/var/tmp"))  # others must get through
    tool = Vmtool(root)
    try:
        tool("image", "build", "vllm-cpu", timeout=600)
        before = image.stat()
        tool("run", "--timeout", "1", "--keep-on-failure", make_guest(image=IMAGE, libvirt={"uri": "auto"}), status=1,
             timeout=600)
        [pid] = output("pgrep", "-f", f"guest=vmtool-{NAME}").split()
        assert output("ps", "-o", "user=", "-p", pid).strip().startswith("libvirt")
        claims = {claim["id"]: claim["verdict"] for claim in tool("status", NAME, "--json", status=None).json["claims"]}
        assert claims["configuration.unchanged"] == claims["guest.cmdline"] == "proven"
        assert (image.stat().st_uid, image.stat().st_mode) == (before.st_uid, before.st_mode)
        tool("rm", "--yes", NAME)
        assert f"vmtool-{NAME}" not in output("virsh", "-c", "qemu:///system", "list", "--all")
    finally:
        tool("recover", status=None)
        shutil.rmtree(root)
