"""The descriptions of domains against libvirt's own schema, and `vmtool libvirt` as a process.

The schema of the installed libvirt judges what it knows. What it is too old for, and virtCCA's `cvm`, which no release
of libvirt's knows, is judged by tests/data/libvirt/domain.rng: the same schema with another launchSecurity. What it
makes of a domain for x86 is QEMU's arguments, without a start; a TEE is taken out before that, where it knows none.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.machine import Result, Vmtool, output
from tests.unit.libvirt.cases import COMBINATIONS, GPUS, name_of
from vmtool.libvirt.domain import mac_of
from vmtool.qemu.claims import vm_claims
from vmtool.tee.table import BY_NAME

GOLDEN = Path(__file__).parents[1] / "golden" / "libvirt"
OWN = Path(__file__).parents[1] / "data" / "libvirt" / "domain.rng"
NAMES = [name_of(*combination) for combination in COMBINATIONS] + ["none-emulated", "none-aarch64"]
CONFIDENTIAL = [name for name in NAMES if not name.startswith("none")]


def libvirts(file: Path) -> Result:
    return ran("virt-xml-validate", str(file), "domain")


def own(file: Path, schema: Path = OWN) -> Result:
    return ran("xmllint", "--noout", "--relaxng", str(schema), str(file))


def ran(*argv: str) -> Result:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def validates(result: Result, file: Path) -> bool:
    """Both programs say so in words; a status of 0 alone would not tell that anything was looked at."""
    return result.status == 0 and f"{file} validates" in result.out + result.err


def invalid(result: Result, file: Path) -> bool:
    """xmllint's status 3, not that of a schema that it could not read."""
    return result.status == 3 and f"{file} fails to validate" in result.out + result.err


def known_to_libvirt(tee: str) -> bool:
    version = tuple(int(part) for part in output("virsh", "--version").strip().split(".")[:2])
    assert version, "virsh does not tell its version"
    return tee == "none" or version >= (BY_NAME[tee].libvirt.since or (999, 0))


@pytest.mark.parametrize("name", NAMES)
def test_every_rendering_fits_the_schema(name: str) -> None:
    file = GOLDEN / f"{name}.xml"
    judged = libvirts(file) if known_to_libvirt(name.partition("-")[0]) else own(file)
    assert validates(judged, file), judged


@pytest.mark.parametrize("name", CONFIDENTIAL)
def test_all_but_the_launch_security_fits_libvirts_own_schema(name: str, tmp_path: Path) -> None:
    file = tmp_path / "domain.xml"
    file.write_text(without_security((GOLDEN / f"{name}.xml").read_text()))
    assert validates(judged := libvirts(file), file), judged


def without_security(text: str) -> str:
    start = text.index("  <launchSecurity")
    closing = "</launchSecurity>\n" if "</launchSecurity>" in text else "/>\n"
    end = text.index(closing, start) + len(closing)
    return text[:start] + text[end:]


@pytest.mark.parametrize(("name", "old", "new"), [
    ("none-0gpu-kernel", "<serial>root", "<cereal>root</cereal><serial>root"),
    ("none-1gpu-kernel", "slot='0x00'", "slot='0x99'"),
    ("snp-0gpu-kernel", "'sev-snp'", "'sev-snap'"), ("snp-0gpu-kernel", "kernelHashes='yes'", "kernelHashes='1'"),
    ("snp-0gpu-kernel", "0x00030000", "none"), ("snp-0gpu-kernel", "    <policy>0x00030000</policy>\n", ""),
    ("tdx-0gpu-kernel", "0x10000000", "0x1000000000000000000"), ("tdx-0gpu-kernel", "type='tdx'", ""),
    ("virtcca-0gpu-kernel", "type='cvm'/>", "type='cvm' policy='1'/>"), ("virtcca-0gpu-kernel", "'cvm'", "'cca'"),
    ("virtcca-0gpu-kernel", "<gic version='3'/>", "<gic version='three'/>"),
])
def test_what_is_wrong_does_not_validate(name: str, old: str, new: str, tmp_path: Path) -> None:
    text = (GOLDEN / f"{name}.xml").read_text()
    assert old in text
    file = tmp_path / "domain.xml"
    file.write_text(text.replace(old, new, 1))
    assert invalid(own(file), file)
    assert invalid(libvirts(file), file)


def test_the_launch_security_of_virtcca_is_in_no_schema_of_libvirts() -> None:
    """Else the schema of our own could go."""
    file = GOLDEN / "virtcca-0gpu-kernel.xml"
    assert invalid(judged := libvirts(file), file), judged


def test_a_validation_that_could_not_check_does_not_pass(tmp_path: Path) -> None:
    file = GOLDEN / "none-0gpu-kernel.xml"
    schema = tmp_path / "domain.rng"
    schema.write_text(OWN.read_text().replace("/usr/share/libvirt/schemas", "/nonexistent"))
    absent = tmp_path / "absent.xml"
    for judged, judge in ((own(file, schema), file), (own(absent), absent), (libvirts(absent), absent)):
        assert not validates(judged, judge)
        assert not invalid(judged, judge)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A libvirt inside of virsh."""
    return f"qemu:///embed?root={tmp_path_factory.mktemp('libvirt')}"


def arguments(uri: str, file: Path) -> list[str]:
    """What libvirt would start QEMU with; the environment before it left out."""
    native = ran("virsh", "-c", uri, "domxml-to-native", "qemu-argv", str(file))
    assert native.status == 0, native.err
    words = shlex.split(native.out)
    return words[next(number for number, word in enumerate(words) if word.startswith("/usr/bin/qemu-system")):]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("none-") and "aarch64" not in name])
def test_what_libvirt_makes_of_it_is_what_was_asked_for(uri: str, name: str) -> None:
    """From the rendering to the arguments that a proof looks at, by the real libvirt; the tap has no bridge here."""
    gpus = int(name[5]) if name[5].isdigit() else 0
    kernels = {} if name.endswith("firmware") else {"/s/domains/chat/kernel"}
    argv = arguments(uri, GOLDEN / f"{name}.xml")
    verdicts = {claim.id: claim.verdict for claim in vm_claims(argv, "none", GPUS[:gpus], kernels)}
    expected = {"tee": "failed", "vm.kvm": "failed" if name == "none-emulated" else "proven",
                "vm.no-debugger": "proven", "vm.devices": "proven", **({"vm.kernel": "proven"} if kernels else {})}
    assert verdicts == expected
    assert argv[argv.index("-name") + 1].startswith("guest=vmtool-chat,")


@pytest.mark.parametrize("name", [name for name in CONFIDENTIAL if not name.startswith("virtcca")])
def test_every_virtio_device_of_a_confidential_guest_shares_its_buffers(uri: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "domain.xml"
    file.write_text(without_security((GOLDEN / f"{name}.xml").read_text()))
    argv = arguments(uri, file)
    devices = [json.loads(word) for option, word in itertools.pairwise(argv) if option == "-device"
               and word.startswith("{")]
    virtio = [each for each in devices if each["driver"].startswith("virtio-") and each["driver"].endswith("-pci")]
    # The translation puts a plain network device in the place of one on a bridge, so its options are not seen here.
    shared = [each["driver"] for each in virtio if each.get("iommu_platform")]
    assert sorted(shared) == ["virtio-blk-pci"] * 3 + ["virtio-rng-pci", "virtio-serial-pci"]
    bios = argv[argv.index("-bios") + 1]
    assert bios.endswith("amdsev.fd" if name.startswith("snp") else "inteltdx.fd")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A guest image with an ext4 file system, a kernel, and a spec beside them that names them."""
    image = tmp_path / "rootfs.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image), "8M"], check=True, capture_output=True)
    image.with_name("rootfs.img.vmlinuz").write_bytes(b"kernel")
    path = tmp_path / "guest.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "xml-guest"}, "spec": {
            "runtime": {"handler": "libvirt",
                        "libvirt": {"image": "rootfs.img", "kernel_params": ["quiet", "a=<&'\">"]}},
            "allow_unconfidential": True, "model": {"name": "m", "path": str(tmp_path)},
            "resources": {"memory": "512Mi", "cpus": 1}}}))
    return path


def change(spec: Path, **libvirt: object) -> None:
    wish = yaml.safe_load(spec.read_text())
    wish["spec"]["runtime"]["libvirt"] |= libvirt
    spec.write_text(yaml.safe_dump(wish))


def test_the_command_prints_what_fits_the_schema(own_state: Vmtool, spec: Path, tmp_path: Path) -> None:
    printed = own_state("libvirt", "render", spec)
    file = tmp_path / "made" / "domain.xml"
    assert f"written: {file}" in own_state("libvirt", "render", spec, "-o", file).err
    assert file.read_text() == printed.out, "byte for byte, and what is told beside it does not mix with it"
    assert validates(judged := libvirts(file), file), judged
    assert f"<source file='{tmp_path / 'rootfs.img'}'>" in printed.out, "relative to the spec"
    assert "quiet a=&lt;&amp;&#39;&#34;&gt;</cmdline>" in printed.out
    assert mac_of("vmtool-xml-guest") in printed.out
    assert not own_state.state.exists(), "nothing was changed"


def test_what_would_stop_the_run_goes_to_stderr(own_state: Vmtool, spec: Path) -> None:
    rendered = own_state("libvirt", "render", spec)
    assert "vmtool run would stop: spec.model.path" in rendered.err
    assert own_state("plan", spec, status=2).out == ""


def test_problems_are_told_at_once_with_their_exit_code(own_state: Vmtool, spec: Path) -> None:
    change(spec, image="absent.img", firmware="absent.fd", machine="microvm", kernel_params=["p" * 4096])
    refused = own_state("libvirt", "render", spec, status=2)
    assert refused.out == ""
    for part in ("error: xml-guest gives no domain", "absent.img", "absent.fd: no such file",
                 "firmware: is not used", "hint: correct the spec"):
        assert part in refused.err
    change(spec, kernel_params=["a b"])
    assert "spec.runtime.libvirt.kernel_params.0" in own_state("libvirt", "render", spec, status=2).err


def test_a_spec_for_another_handler_is_shown_the_way(own_state: Vmtool, spec: Path) -> None:
    wish = yaml.safe_load(spec.read_text())
    wish["spec"]["runtime"] = {"handler": "kata"}
    spec.write_text(yaml.safe_dump(wish))
    assert "vmtool kata render SPEC" in own_state("libvirt", "render", spec, status=2).err
    assert "no such file" in own_state("libvirt", "render", spec.with_name("absent.yaml"), status=2).err.lower()
