"""A guest with a software TPM: the domain, what its agent asks of the TPM, and what a quote proves."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.launches import Found, launched
from tests.unit.attest.make_tpm import ATTRIBUTES, KEY, NONCE, Tpm, public, registers
from tests.unit.launch.cases import MODEL, actions
from tests.unit.libvirt.cases import FIRMWARE, STATE, facts, host, spoken, text, wish
from vmtool.attest.appraisal import NotProven
from vmtool.attest.tpm.ask import evidence_of
from vmtool.launch.pipeline import plan_launch
from vmtool.launch.plan_reference import scratch_spec
from vmtool.libvirt.initramfs_files import REGISTERS, guest_files
from vmtool.libvirt.launch_check import check_domain
from vmtool.libvirt.tpm_claims import judge_quote
from vmtool.libvirt.workers import write_reference
from vmtool.serving.evidence.tpm_commands import key_command, quote_command
from vmtool.spec.runtime import Spec

WITH = {"tpm": True, "firmware": FIRMWARE["none"]}


def guest(**libvirt: Any) -> Spec:
    return wish(libvirt=WITH | libvirt)


def test_the_firmware_starts_the_kernel_and_measures_into_the_tpm() -> None:
    found = text(guest())
    assert "<tpm model='tpm-crb'>\n      <backend type='emulator' version='2.0'/>" in found
    assert f"stateless='yes'>{FIRMWARE['none']}</loader>" in found
    assert "<kernel>" in found
    assert "tpm" not in text(wish())


def test_it_is_launched_where_swtpm_is() -> None:
    assert spoken(check_domain(guest(), facts(swtpm=True))) == []


def test_the_values_are_worked_out_from_what_is_about_to_boot() -> None:
    spec = guest(kernel_params=["mine=1"])
    made = plan_launch(*launched(STATE, spec, Found(host(), MODEL, None, guest=replace(facts(), swtpm=True))))
    titles = [step.title for step in made.steps]
    at = titles.index("work out what the guest's TPM must show")
    assert titles[at - 1] == "make the guest's initramfs"
    assert titles[at + 1].startswith("start the domain")
    [order] = plans.orders(actions(made), write_reference)
    assert order["cmdline"].endswith(" mine=1")
    assert f"<cmdline>{order['cmdline']}</cmdline>" in text(spec)


def test_neither_the_name_nor_the_network_is_measured() -> None:
    """What is computed before the start is made under another name, and so on another network."""

    def initramfs(spec: Spec) -> str:
        made = plan_launch(*launched(STATE, spec, Found(host(), MODEL, None, guest=replace(facts(), swtpm=True))))
        [step] = [step for step in made.steps if step.title == "make the guest's initramfs"]
        return str(step.actions).replace(f"/domains/{spec.name}/", "/domains/NAME/")

    spec = guest()
    assert scratch_spec(spec).name != spec.name
    assert initramfs(spec) == initramfs(scratch_spec(spec))


def test_the_workload_reaches_the_tpm_when_its_models_key_is_released_to_it_and_no_other_device() -> None:
    image = facts().known()
    plain, sealed = (guest_files(image, ("x",), tpm=True, sealed=shows) for shows in (False, True))
    unit = "vmtool-workload.service"
    assert "PrivateDevices=yes" in plain[unit] and "tpmrm0" not in plain[unit]
    assert "DevicePolicy=closed\nDeviceAllow=/dev/tpmrm0 rw\n" in sealed[unit]
    assert "PrivateDevices" not in sealed[unit]
    assert ("PrivateIPC=yes" in plain[unit], "PrivateIPC=yes" in sealed[unit]) == (False, True)
    assert "PrivateDevices=yes" in guest_files(image, ("x",), sealed=True)[unit], "no TPM"
    assert ("chmod 0666 /dev/tpmrm0" in plain["agent.sh"], "chmod 0666 /dev/tpmrm0" in sealed["agent.sh"]) == (
        False, True)


def test_the_agent_knows_one_question_to_the_tpm() -> None:
    image = facts().known()
    without, agent = guest_files(image, ("x",))["agent.sh"], guest_files(image, ("x",), tpm=True)["agent.sh"]
    assert "tpm" not in without
    assert key_command().hex() in agent
    [line] = [line for line in agent.splitlines() if "say quote" in line]
    head, middle, tail = line.partition('tpm "')[2].partition('")"')[0].replace(
        '$(echo "$key" | $b cut -c21-28)', "|").replace("$1", "|").split("|")
    handle, nonce = bytes.fromhex("80ffffff"), bytes(range(32))
    assert bytes.fromhex(f"{head}{handle.hex()}{middle}{nonce.hex()}{tail}") == quote_command(handle, nonce, REGISTERS)


def answers(tpm: Tpm) -> tuple[bytes, bytes]:
    """As a TPM answers the two commands."""

    def sized(data: bytes) -> bytes:
        return len(data).to_bytes(2, "big") + data

    def answer(handle: bytes, parameters: bytes) -> bytes:
        body = handle + len(parameters).to_bytes(4, "big") + parameters + bytes(5)
        return b"\x80\x02" + (len(body) + 10).to_bytes(4, "big") + bytes(4) + body

    return (answer(b"\x80\xff\xff\xff", public(tpm.key, tpm.attributes) + sized(b"rest")),
            answer(b"", sized(tpm.quote()) + tpm.signature()))


def test_evidence_is_read_out_of_the_answers() -> None:
    tpm = Tpm()
    found = evidence_of(*answers(tpm), b"log")
    assert {name: base64.b64decode(value) for name, value in found.items()} == {
        "quote": tpm.quote(), "ak_public": public(KEY), "event_log": b"log",
        "signature": base64.b64decode(found["signature"])}
    key, quote = answers(tpm)
    for wrong in (b"", key[:-1], b"\x80\x01" + key[2:], key[:6] + b"\0\0\1\1" + key[10:], key[:20]):
        with pytest.raises(NotProven):
            evidence_of(wrong, quote, b"")


BOOTED = Tpm(selected=(0, 4, 8, 9))


def said(tpm: Tpm | None = None, nonce: bytes = NONCE, pcrs: dict[int, str] | None = None) -> str:
    expected = {number: registers()[number].hex() for number in (4, 8, 9)} if pcrs is None else pcrs
    return json.dumps({"nonce": nonce.hex(), "evidence": json.loads((tpm or BOOTED).json()),
                       "expected": {"keys": [], "pcrs": {"sha256": expected} if expected else {}}})


@pytest.mark.parametrize(("text", "verdict", "why"), [
    (said(), "proven", "by a software TPM, which the host runs: it proves nothing against the host"),
    (said(nonce=bytes(20)), "failed", "tpm.freshness"), (said(pcrs={8: "00" * 32}), "failed", "tpm.measurement"),
    (said(pcrs={1: "00" * 32}), "failed", "register 1 was not quoted"),
    (said(Tpm(attributes=ATTRIBUTES & ~(1 << 16))), "failed", "tpm.key-binding"),
    (said(Tpm(quoted={**registers(), 4: bytes(32)})), "failed", "tpm.registers"),
    (said(pcrs={8: registers()[8].hex()}), "not-checked", "register 4 was not computed"),
    (said(pcrs={}), "not-checked", "no values of registers"), ("{}", "failed", "no evidence of a TPM"),
    ("", "failed", "no evidence of a TPM"), ("[]", "failed", "no evidence of a TPM"),
])
def test_what_a_quote_proves(text: str, verdict: str, why: str) -> None:
    claim = judge_quote(text)
    assert (claim.id, claim.verdict) == ("guest.measured", verdict), claim
    assert why in claim.evidence
