"""QEMU's arguments in, claims out: the request against what was started."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.proc import Proc
from tests.fakes.recorded import Recorded
from tests.fakes.threads import exited_leader
from tests.unit.qemu.cases import FILES, argv
from vmtool.claims import Claim
from vmtool.facts.qemu_processes import name_of, read_qemu
from vmtool.qemu.arguments import Arguments, parse_arguments, properties
from vmtool.qemu.claims import tee_claims, vm_claims
from vmtool.qemu.processes import real_path

TEES = ("virtcca", "snp", "tdx")
KERNEL = "/opt/kata/share/kata-containers/vmlinuz.container"


def tee_claim(arguments: Arguments, tee: str) -> Claim:
    """`tee`; `vm.tee` says the same of the arguments, and where they are right it is proven."""
    claim, *others = tee_claims(arguments, tee)
    wanted = {"failed": "failed", "not-checked": "proven"}[claim.verdict]
    assert [(each.id, each.verdict) for each in others] == ([("vm.tee", wanted)] if tee != "none" else [])
    return claim


def verdicts(words: list[str], tee: str, *devices: str) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in vm_claims(words, tee, devices, {KERNEL})}


@pytest.mark.parametrize("name", [path.stem for path in sorted(FILES.glob("*.json"))])
@pytest.mark.parametrize("tee", TEES)
def test_arguments_contradict_a_tee_and_never_prove_one(name: str, tee: str) -> None:
    claim = tee_claim(parse_arguments(argv(name)), tee)
    assert claim.verdict == ("not-checked" if name.partition("-")[0] == tee else "failed"), claim
    assert ("NOT CONFIDENTIAL" in claim.evidence) == (claim.verdict == "failed")


def test_the_stock_shims_silent_ordinary_vm() -> None:
    claim = tee_claim(parse_arguments(argv("stock-arm64")), "virtcca")
    assert claim.evidence == (
        "NOT CONFIDENTIAL: virtcca was asked for, but QEMU runs an ordinary VM, without kvm-type=cvm and -object "
        "tmm-guest: a stock shim ignores confidential_guest (machine virt)")


def test_what_is_not_checked_says_what_was_seen_and_what_is_missing() -> None:
    claim = tee_claim(parse_arguments(argv("virtcca")), "virtcca")
    assert claim.evidence == ("QEMU was started with kvm-type=cvm, -object tmm-guest,id=tmm0 (machine virt); no report "
                              "of the guest was verified, and nothing else proves a TEE")


@pytest.mark.parametrize(("name", "tee", "changes", "message"), [
    ("virtcca", "virtcca", {"kvm-type=cvm": "kvm-type=normal"}, "kvm-type=normal, not cvm"),
    ("virtcca", "virtcca", {"tmm-guest,": "tmm-other,"}, "there is no -object tmm-guest"),
    ("snp", "snp", {",confidential-guest-support=snp": ""}, "does not use the object"),
    ("snp", "snp", {"guest-support=snp": "guest-support=other"}, "confidential-guest-support=other"),
    ("snp", "snp", {"policy=0x30000": "policy=0xb0000"}, "lets the host debug it"),
    ("snp", "snp", {"policy=0x30000": "policy=zzz"}, "lets the host debug it"),
    ("snp", "snp", {"sev-snp-guest": "sev-guest"}, "with -object sev-guest, without -object sev-snp-guest"),
    ("tdx", "tdx", {'"id":"tdx"': '"id":"tdx","attributes":1'}, "let the host debug it"),
    ("tdx", "tdx", {'"id":"tdx"': '"id":"tdx","debug":true'}, "let the host debug it"),
    ("tdx", "tdx", {'{"qom-type"': '{"qom-type'}, "an ordinary VM"),
    ("none", "snp", {}, "an ordinary VM"),
])
def test_what_looks_like_a_tee_and_is_none(name: str, tee: str, changes: dict[str, str], message: str) -> None:
    claim = tee_claim(parse_arguments(argv(name, **changes)), tee)
    assert claim.verdict == "failed"
    assert message in claim.evidence


@pytest.mark.parametrize("words", [
    ("-set", "object.snp.policy=0xb0000"), ("--set", "machine.m.confidential-guest-support="),
    ("-global", "sev-snp-guest.policy=0xb0000"), ("-global", "driver=sev-snp-guest,property=policy,value=0xb0000"),
    ("-global", "pc-q35-9.2-machine.confidential-guest-support=x"), ("-readconfig", "/etc/other.cfg")])
def test_what_changes_other_arguments_is_not_overlooked(words: tuple[str, ...]) -> None:
    claim = tee_claim(parse_arguments([*argv("snp"), *words]), "snp")
    assert (claim.verdict, words[1] in claim.evidence) == ("failed", True), words


@pytest.mark.parametrize("words", [
    ("-global", "ICH9-LPC.disable_s3=1"), ("-global", "kvm-pit.lost_tick_policy=discard"),
    ("-set", "device.net0.x=1")])
def test_what_libvirt_and_kata_set_so_is_no_contradiction(words: tuple[str, ...]) -> None:
    assert tee_claim(parse_arguments([*argv("snp"), *words]), "snp").verdict == "not-checked"


def test_without_a_wish_it_is_never_called_confidential() -> None:
    assert tee_claim(parse_arguments(argv("snp")), "none").verdict == "failed"


def test_all_claims_of_a_good_guest() -> None:
    assert verdicts(argv("snp-gpu"), "snp", "0000:41:00.0") == {
        "tee": "not-checked", "vm.tee": "proven", "vm.kvm": "proven",
        "vm.no-debugger": "proven", "vm.devices": "proven", "vm.kernel": "proven"}


@pytest.mark.parametrize(("words", "claim"), [
    (argv("snp-gpu", **{"accel=kvm": "accel=tcg"}), "vm.kvm"), (argv("snp-gpu", **{",accel=kvm": ""}), "vm.kvm"),
    ([*argv("snp-gpu"), "-s"], "vm.no-debugger"), ([*argv("snp-gpu"), "--gdb", "tcp::1234"], "vm.no-debugger"),
    ([*argv("snp-gpu"), "-qtest", "unix:/q"], "vm.no-debugger"),
    ([*argv("snp-gpu"), "-monitor", "stdio"], "vm.no-debugger"), (argv("snp"), "vm.devices"),
    ([*argv("snp-gpu"), "-mon", "chardev=c,mode=readline"], "vm.no-debugger"),
    ([*argv("snp-gpu"), "-mon", "c", "-mon", "chardev=d,mode=control"], "vm.no-debugger"),
    (argv("snp-gpu", **{"0000:41:00.0": "0000:42:00.0"}), "vm.devices"),
    ([*argv("snp-gpu"), "-device", "vfio-pci,host=09:00.0"], "vm.devices"),
    (argv("snp-gpu", **{KERNEL: "/tmp/other"}), "vm.kernel"),
])
def test_one_thing_wrong_fails_one_claim(words: list[str], claim: str) -> None:
    told = verdicts(words, "snp", "0000:41:00.0")
    assert [name for name, verdict in told.items() if verdict == "failed"] == [claim]


@pytest.mark.parametrize(("text", "found"), [
    ("q35,accel=kvm,nvdimm", {"type": "q35", "accel": "kvm", "nvdimm": "on"}),
    ("type=virt,gic-version=3", {"type": "virt", "gic-version": "3"}),
    ("file=/a,,b,id=c", {"file": "/a,b", "id": "c"}), ("driver=vfio-pci,host=1", {"type": "vfio-pci", "host": "1"}),
    ('{"qom-type":"x","id":"y","a":true}', {"type": "x", "id": "y", "a": "on"}), ("{", {}), ("{[]}", {}),
])
def test_properties(text: str, found: dict[str, str]) -> None:
    assert properties(text) == found


def test_later_machine_options_count_as_qemu_counts_them() -> None:
    words = [*argv("virtcca"), "-machine", "kvm-type=normal"]
    assert tee_claim(parse_arguments(words), "virtcca").verdict == "failed"


@given(st.lists(st.text(max_size=30) | st.sampled_from(["-machine", "-object", "-device", "-accel", "--s", "-", "--"])),
       st.sampled_from(("none", *TEES)))
def test_whatever_the_arguments_are_they_are_judged(words: list[str], tee: str) -> None:
    claims = {claim.id: claim for claim in vm_claims(["qemu", *words], tee, ["0000:01:00.0"], {"/k"})}
    assert claims["tee"].verdict == "failed"


def test_the_qemu_of_a_name_is_found_and_no_other() -> None:
    qemu = "/opt/kata/bin/qemu-system-x86_64"
    other = [word.replace("sandbox-chat", "sandbox-chat2") for word in argv("snp")]
    proc = Proc({1: ("/sbin/init", ["init"]), 9: (f"{qemu} (deleted)", argv("snp")), 8: (qemu, other), 7: ("", []),
                 5: ("/usr/bin/python3.11", argv("snp"))})
    [found] = read_qemu(proc, "sandbox-chat")
    assert (found.pid, found.program) == (9, qemu), "a program that only says it is QEMU is none"
    assert found.argv == tuple(argv("snp"))


@pytest.mark.parametrize(("threads", "found"), [(2, [9]), (1, [])])
def test_a_qemu_lives_as_long_as_one_of_its_threads(threads: int, found: list[int]) -> None:
    """Its leader has exited and shows neither program nor arguments; with no thread left it only waits to be reaped."""
    qemu, words = "/opt/kata/bin/qemu-system-x86_64", argv("snp")
    host = Recorded({"names": {"/proc": ["9"], "/proc/9/task": ["9", "10", "11"]}, "texts": {
        **exited_leader(9, threads), "/proc/9/status": "PPid:\t1\nUid:\t0\t0\t0\t0\n",
        **({"/proc/9/task/11/cmdline": "\0".join([*words, ""])} if threads > 1 else {})},
        "links": {"/proc/9/task/11/exe": qemu}})
    assert [(process.pid, process.program) for process in read_qemu(host, "sandbox-chat")] == [
        (pid, qemu) for pid in found]


@pytest.mark.parametrize(("path", "real"), [
    ("/opt/kata/share/vmlinux.container", "/srv/kata/share/vmlinux-6.12"), ("/srv/kata/bin/q", "/srv/kata/bin/q"),
    ("/opt/kata/../x/./y", "/srv/x/y"), ("/loop/a", "/loop/a"), ("/", "/"),
])
def test_paths_without_links(path: str, real: str) -> None:
    """The release archive's kernels are links, and Kata resolves them and the directories above."""
    links = {"/opt/kata": "/srv/kata", "/srv/kata/share/vmlinux.container": "vmlinux-6.12", "/loop": "loop"}
    assert real_path(Proc({}, links=links), path) == real


def test_names() -> None:
    assert name_of(("q", "-name", "guest=a,debug-threads=on")) == "a"
    assert name_of(("q", "-name", "a")) == "a"
    assert name_of(("q", "-smp", "2")) == ""


@pytest.mark.parametrize(("user", "counts"), [(0, True), (64055, True), (77, True), (1000, False), (107, False)])
def test_only_root_and_whom_libvirt_runs_qemu_as_have_guests(user: int, counts: bool) -> None:
    """Anybody else may name a program like that, with such arguments."""
    texts = {"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nlibvirt-qemu:x:64055:107::/:/bin/sh\nann:x:1000:0::/:\n"
                            "service:x:77:77::/:\nother:x:107:107::/:\n",
             "/etc/libvirt/qemu.conf": '#user = "other"\nuser = "service"\n',
             "/proc/8/status": f"Uid:\t{user}\t{user}\t{user}\t{user}\n"}
    proc = Proc({8: ("/usr/bin/qemu-system-x86_64", argv("snp"))}, texts)
    assert [process.pid for process in read_qemu(proc, "sandbox-chat")] == [8] * counts


@pytest.mark.parametrize(("numbers", "counts"), [("", True), ("NSpid:\t8\n", True), ("NSpid:\t8\t3\n", False)])
def test_a_guest_in_a_container_is_none_of_this_hosts(numbers: str, counts: bool) -> None:
    """Another vmtool may be at work there. A host that was recorded earlier does not say."""
    proc = Proc({8: ("/usr/bin/qemu-system-x86_64", argv("snp"))},
                {"/proc/8/status": f"Uid:\t0\t0\t0\t0\n{numbers}"})
    assert [process.pid for process in read_qemu(proc, "sandbox-chat")] == [8] * counts
