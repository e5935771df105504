"""Bundles of launches: whole ones verify on a machine that knows nothing else, and whatever was changed is refused."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.fakes.typed import typed
from tests.unit.attest.cases import EDITS, edited, flipped, request
from tests.unit.bundle.cases import KEY, PEM, SECRETS, accepts, appraised, forged, launched, reasons, unproven
from vmtool.bundle.archive import unpack
from vmtool.bundle.chain import root_of
from vmtool.errors import Refused, VerificationFailed, VmtoolError
from vmtool.host import files
from vmtool.launch.commands import bundle as commands

ASKED = request()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return launched(tmp_path_factory.mktemp("state")).bundle()


def test_a_whole_bundle_says_what_is_consistent_and_not_who_made_it(data: bytes) -> None:
    found = appraised(data, ASKED)
    assert unproven(data, ASKED) == []
    assert {claim.id: claim.verdict for claim in found["bundle"].claims} == {
        **{f"bundle.{name}": "proven" for name in ("members", "chain", "instance", "spec", "plan", "journal", "files",
                                                   "claims")}, "bundle.origin": "not-checked"}
    launch = {claim.id: claim.verdict for claim in found["launch"].claims}
    assert launch.pop("launch.tee") == "failed", "it was asked for, and yet it is what it is"
    assert launch.pop("launch.vllm.arguments") == launch.pop("launch.vllm.powers") == "not-checked"
    assert set(launch.values()) == {"proven"} and len(launch) == 11
    assert "whoever has root on a host can write" in found["bundle"].claims[-1].evidence


def test_the_root_from_elsewhere_says_whose_it_is(data: bytes) -> None:
    root = root_of(unpack(data))
    assert appraised(data, ASKED, root)["bundle"].claims[-1].verdict == "proven"
    assert unproven(data, ASKED, "0" * 64) == ["bundle.origin"]


def test_the_same_look_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.8e9)
    found = launched(tmp_path)
    first = found.bundle(found.machine(memory=100))
    assert found.bundle(found.machine(memory=900)) == first
    assert b"VmRSS" not in first


def test_everything_is_in_it_but_secrets_tokens_and_logs(data: bytes) -> None:
    assert list(unpack(data)) == [
        "bundle.json", "facts.json", "instance.json", "journal.jsonl", "net/result.json", "plan.json", "spec.json",
        "evidence/canary.json", "evidence/proof.json", "evidence/server.json", "observed.json", "digests.jsonl"]
    for secret in (KEY, *(text for name, text in SECRETS.items() if "tls" not in name), "MIGHsecret", "sha256:00"):
        assert secret.encode() not in data


FORMS: tuple[Callable[[bytes], bytes], ...] = (
    bytes, lambda secret: secret.hex().encode(), base64.b64encode, lambda secret: base64.b64encode(b"a" + secret),
    lambda secret: base64.b64encode(b"ab" + secret + b"c"))


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.thorough
@pytest.mark.parametrize("secret", [KEY, SECRETS["manager-key"], SECRETS["metrics-key"],
                                    "MIGHsecretsecretsecretsecret"])
@pytest.mark.parametrize("member", ["facts.json", "net/result.json", "evidence/canary.json"])
def test_a_secret_that_got_into_a_file_gets_into_no_bundle(tmp_path: Path, form: int, secret: str, member: str) -> None:
    found = launched(tmp_path)
    path = found.instance.paths.directory / member
    path.write_bytes(path.read_bytes()[:-1] + b" " * (path.suffix != ".json") + b"}\n")
    text = {"right": True, "answer": "So.", "x": FORMS[form](secret.encode()).decode()}
    path.write_text(json.dumps(text))
    with pytest.raises(VmtoolError, match="a secret would be in it") as error:
        found.bundle()
    assert any(line.startswith(f"{member} has what is in secret/") for line in error.value.details)
    assert secret not in "\n".join(error.value.details)


def test_a_secret_that_only_the_spec_names_gets_into_no_bundle(tmp_path: Path) -> None:
    """A model's key is never in the instance's directory."""
    key = tmp_path / "master.jwk"
    key.write_text('{"kty": "oct", "k": "bW9kZWxtb2RlbG1vZGVsbW9kZWw="}')
    found = launched(tmp_path / "state", {"net/more": b"bW9kZWxtb2RlbG1vZGVsbW9kZWw="}, model={
        "name": "m", "path": "/m", "encryption": {"signer": "/s.jwk", "key": {"file": str(key)}}})
    with pytest.raises(VmtoolError) as error:
        found.bundle()
    assert f"net/more has what is in {key}" in error.value.details


@pytest.mark.parametrize("text", [PEM, PEM.encode().hex(), '{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}',
                                  json.dumps({"x": '{"d":"c2VjcmV0c2VjcmV0c2VjcmV0"}'})])
def test_no_private_key_of_anybody_gets_into_it(tmp_path: Path, text: str) -> None:
    found = launched(tmp_path, {"net/more": text.replace("MIGHsecret", "MIGHothers").encode()})
    with pytest.raises(VmtoolError) as error:
        found.bundle()
    assert "net/more has a private key" in error.value.details


def test_public_certificates_may_be_in_it(tmp_path: Path) -> None:
    found = launched(tmp_path, {"net/ca.pem": PEM.partition("-----BEGIN PRIVATE")[0].encode()})
    assert accepts(found.bundle(), ASKED)


@pytest.mark.parametrize("mask", [0x01, 0x80])
@pytest.mark.parametrize("step", [211, pytest.param(1, marks=pytest.mark.slow)])
def test_no_byte_can_be_changed(data: bytes, mask: int, step: int) -> None:
    assert [place for place, changed in flipped(data, range(0, len(data), step), mask) if accepts(changed, ASKED)] == []


@given(edits=EDITS)
def test_nothing_that_was_edited_is_accepted(data: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    changed = edited(data, edits)
    assert changed == data or not accepts(changed, ASKED)


@pytest.mark.parametrize("step", [997, pytest.param(61, marks=pytest.mark.slow)])
def test_no_beginning_of_it_is_one(data: bytes, step: int) -> None:
    assert not any(accepts(data[:size], ASKED) for size in (*range(0, len(data), step), len(data) - 1, len(data) - 512))


def test_nothing_may_follow(data: bytes) -> None:
    for more in (b"\0", bytes(512), bytes(9216), b"x" * 512, data):
        assert "the archive does not end after digests.jsonl" in reasons(data + more, ASKED)


def edit(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new, 1)
    return change


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[dict[str, bytes]], None]:
    """Of the journal."""
    def changed(members: dict[str, bytes]) -> None:
        members["journal.jsonl"] = b"".join(change(members["journal.jsonl"].splitlines(keepends=True)))
    return changed


def drop(name: str) -> Callable[[dict[str, bytes]], Any]:
    return lambda members: members.pop(name)


CLAIMS = "evidence/proof.json"
NOT_CONFIDENTIAL = b"NOT CONFIDENTIAL: none was asked for; root on this host reads everything"


@pytest.mark.parametrize(("change", "wrong", "named"), [
    (edit(CLAIMS, b'"failed"', b'"proven"'), "launch.tee", "recorded proven"),
    (edit(CLAIMS, b'"proven"', b'"not-checked"'), "launch.process.running", "follows proven"),
    (edit(CLAIMS, b"pid 7", b"pid 8"), "launch.process.running", "pid 8"),
    (edit(CLAIMS, b'"unmet": []', b'"unmet": ["canary"]'), "bundle.claims", "not as vmtool writes it"),
    (edit(CLAIMS, b'"tee": "none"', b'"tee": "snp"'), "bundle.claims", "not as vmtool writes it"),
    (edit(CLAIMS, b'"files": {', b'"files": {"net/x": "00", '), "bundle.files", "net/x"),
    (edit(CLAIMS, b'"id": "canary"', b'"id": "canaries"'), "bundle.claims", "canaries"),
    (edit(CLAIMS, b'"proven"', b'"certain"'), "launch.format", "unknown verdict"),
    (edit("observed.json", b"0000000000000000", b"0000000000000001"), "launch.process.no-capabilities", "CapPrm"),
    (edit("observed.json", b"ro,relatime", b"rw,relatime"), "launch.rootfs.read-only", "rw,relatime"),
    (edit("observed.json", b"mountinfo", b"mountings"), "launch.rootfs.read-only", "nothing was observed of"),
    (edit("evidence/canary.json", b"So.", b"No."), "bundle.files", "evidence/canary.json"),
    (edit("instance.json", b'"tee": "none"', b'"tee": "snp"'), "bundle.instance", "checksum"),
    (edit("spec.json", b'"cpus": 1', b'"cpus": 2'), "bundle.spec", "not the one that was launched"),
    (edit("plan.json", b"make /one", b"make /ten"), "bundle.plan", "checksum"),
    (edit("bundle.json", b'"pid": 7', b'"pid": 8'), "bundle.instance", "checksum"),
    (edit("net/result.json", b"{}", b"[]"), "bundle.files", "net/result.json"),
    (edit("facts.json", b"{}", b"[]"), "bundle.files", "facts.json"),
    (drop("facts.json"), "bundle.files", "facts.json"), (drop("observed.json"), "bundle.members", "observed.json"),
    (drop("journal.jsonl"), "bundle.members", "journal.jsonl"), (drop(CLAIMS), "bundle.members", CLAIMS),
    (lines(lambda found: found[:-1]), "bundle.journal", "ends with"),
    (lines(lambda found: found[1:]), "bundle.journal", "journal.jsonl:1"),
    (lines(lambda found: found[:2] + found[3:]), "bundle.journal", "journal.jsonl:3: record 4 follows on record 2"),
    (lines(lambda found: [found[0], found[2], found[1], *found[3:]]), "bundle.journal", "journal.jsonl:2"),
    (lines(lambda found: [*found, found[-1]]), "bundle.journal", "repeated"),
    (lines(lambda found: [*found[:-1], found[-1][:-9]]), "bundle.journal", "cut short"),
    (lines(lambda found: [each.replace(b"/one", b"/ten") for each in found]), "bundle.journal", "checksum"),
    (lines(lambda found: [b'{"event": "plan", "subject": "instance a"}\n', b'{"event": "applied"}\n']),
     "bundle.journal", "a record has no checksum"),
])
def test_what_was_changed_is_refused_by_name_also_with_new_digests(
        data: bytes, change: Callable[[dict[str, bytes]], Any], wrong: str, named: str) -> None:
    changed = forged(data, change)
    assert wrong in unproven(changed, ASKED)
    assert named in reasons(changed, ASKED)


def test_another_instances_journal_is_refused(data: bytes, tmp_path: Path) -> None:
    other = unpack(data)["journal.jsonl"]
    assert "bundle.journal" in unproven(forged(data, lambda members: members.update(
        {"journal.jsonl": other.replace(b"instance a", b"instance b")})), ASKED)


def test_a_member_that_was_swapped_without_new_digests_is_named(data: bytes) -> None:
    place = data.index(b'"So."')
    changed = data[:place + 1] + b"No." + data[place + 4:]
    assert "member evidence/canary.json is not the one that digests.jsonl has" in reasons(changed, ASKED)


def test_what_does_not_verify_is_not_written(tmp_path: Path) -> None:
    found = launched(tmp_path)
    found.instance.paths.spec.write_text(found.instance.paths.spec.read_text().replace('"cpus": 1', '"cpus": 2'))
    with pytest.raises(VmtoolError, match="it would be refused") as error:
        found.bundle()
    assert error.value.details == ("bundle.spec: spec.json is not the one that was launched",)


def test_links_and_pipes_in_the_directory_are_left_out(tmp_path: Path) -> None:
    found = launched(tmp_path)
    directory = found.instance.paths.directory
    os.mkfifo(directory / "net/pipe")
    (directory / "net/link").symlink_to(directory / "secret/api-key")
    (directory / "kata").symlink_to(directory / "secret")
    (directory / "net/.result.json.00000001.tmp").write_text(KEY)
    assert not {"net/pipe", "net/link", "kata/api-key"} & unpack(found.bundle()).keys()


def test_a_new_file_takes_the_place_of_none(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    files.write_new(path, b"first")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    for taken in (path, tmp_path / "dangling"):
        with pytest.raises(FileExistsError):
            files.write_new(taken, b"second")
        with pytest.raises(Refused, match="it is there already"):
            commands.require_new(taken)
    assert path.read_bytes() == b"first" and path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["dangling", "x.tar"]
    with pytest.raises(Refused, match="no such directory"):
        commands.require_new(tmp_path / "absent" / "x.tar")


def test_the_command_checks_it_and_ends_with_4_when_it_is_not_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(data)
    root = root_of(unpack(data))
    result = typed(tmp_path / "state", "attest", "verify", str(path), "--digest", root)
    assert result.exit_code == 0, result.output
    assert "a whole and consistent bundle of a\n" in result.stdout
    assert "launch.tee" in result.stdout and "failed       NOT CONFIDENTIAL" in result.stdout
    document = json.loads(typed(tmp_path / "state", "attest", "verify", str(path), "--json").stdout)
    assert document["verified"] and [each["label"] for each in document["evidence"]] == ["bundle", "launch"]
    path.write_bytes(forged(data, edit(CLAIMS, b'"failed"', b'"proven"')))
    result = typed(tmp_path / "state", "attest", "verify", str(path))
    assert isinstance(result.exception, VerificationFailed) and "launch.tee" in str(result.exception)
    assert "not 64 hex" in str(typed(tmp_path / "state", "attest", "verify", str(path), "--digest", "12").exception)


def test_o_needs_proof(tmp_path: Path) -> None:
    error = typed(tmp_path / "state", "status", "a", "-o", str(tmp_path / "x")).exception
    assert isinstance(error, Refused) and error.hint == f"vmtool status a --proof -o {tmp_path / 'x'}"


def test_a_nonce_that_nothing_in_it_can_have_is_not_passed_over(data: bytes) -> None:
    assert unproven(data, request(nonce=b"12345678")) == ["evidence.format"]
    assert unproven(data, request(snp={"max_vmpl": 0})) == ["reference.format"]
