"""The broker's configuration: every mistake with its place, and nothing that would be released to anybody unseen."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.serving.certificates import issue
from tests.unit.broker.cases import NAME, broker, release_of, write_config, write_reference
from vmtool.broker.audit import Audit
from vmtool.broker.facts import read_release
from vmtool.broker.rates import Rates
from vmtool.cli.main import vmtool
from vmtool.errors import Refused
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.tls.authority import Pair, read_authority

SNP = {"measurement": "22" * 48}


def mistakes(path: Path, listen: str | None = None) -> str:
    with pytest.raises(Refused) as caught:
        release_of(path, listen)
    return "\n".join((caught.value.message, *caught.value.details))


@pytest.mark.parametrize(("policy", "place", "why"), [
    ({"tee": ["sample", "snp"], "reference": "snp.yaml"}, "policy", "stands for no TEE"),
    ({"tee": ["snp"]}, "policy", "reference: FILE"),
    ({"tee": []}, "policy.tee", ""), ({"tee": ["sev"]}, "policy.tee.0", ""), ({"tee": "snp"}, "policy.tee", "a list"),
    ({"tee": ["sample"], "reference": "snp.yaml"}, "policy", "no values to compare"),
    ({"tee": ["snp"], "reference": "absent.yaml"}, "policy.reference", "no such file"),
    ({"tee": ["snp", "tdx"], "reference": "snp.yaml"}, "policy.reference", "any such tdx guest"),
    ({"tee": ["tdx"], "reference": "tdx.yaml"}, "policy.reference", "no tdx.rtmr1, tdx.rtmr2"),
    ({"tee": ["snp"], "reference": "snp-nvidia.yaml"}, "policy.reference", "gpu: true"),
    ({"tee": ["snp"], "reference": "bad.yaml"}, "policy.reference", "measurement"),
    ({"tee": ["tpm"], "reference": "tpm.yaml", "signer": "s"}, "policy", "no init data"),
    ({"tee": ["snp"], "reference": "snp.yaml", "modle": "x"}, "policy.modle", "unknown key"),
    ({"tee": ["snp"], "reference": "snp.yaml", "model": "a b"}, "policy.model", ""),
])
def test_a_policy_that_is_none(tmp_path: Path, policy: Any, place: str, why: str) -> None:
    write_reference(tmp_path, snp=SNP)
    write_reference(tmp_path, snp=SNP, nvidia={"driver": "1"})
    write_reference(tmp_path, tdx={"mrtd": "00" * 48})
    write_reference(tmp_path, tpm={"pcrs": {"sha256": {4: "ab"}}})
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"snp": {"measurement": "zz"}}))
    text = mistakes(write_config(tmp_path, {NAME: policy}))
    assert f"resources.{NAME}.{place}: " in text and why in text, text
    assert f"{tmp_path / 'broker.yaml'}:" in text


@pytest.mark.parametrize(("more", "place", "why"), [
    ({"allow_unconfidential": None}, f"resources.{NAME}.policy.tee", "allow_unconfidential: true"),
    ({"allow_unconfidential": False}, f"resources.{NAME}.policy.tee", "allow_unconfidential: true"),
    ({"listen": "0.0.0.0:8080"}, "listen", "takes tls"), ({"listen": "kbs.lab:80"}, "listen", ""),
    ({"listen": "127.0.0.1:0"}, "listen", "no port"), ({"listen": "127.0.0.1"}, "listen", ""),
    ({"tls": {"source": "ca"}}, "tls", "no CA"), ({"tls": {"source": "files"}}, "tls", ""),
    ({"tls": {"source": "ca", "clients": "ca.pem"}}, "tls", "evidence"),
    ({"tls": {"source": "files", "certificate": "no.pem", "key": "no.key"}}, "tls", "no.pem"),
    ({"audit": None}, "audit", ""), ({"roots": "nowhere"}, "roots", "nowhere"),
    ({"collateral": ["broker.yaml"]}, "collateral", "broker.yaml"),
    ({"limits": {"sessions": 0}}, "limits.sessions", ""), ({"resources": {}}, "resources", ""),
    ({"kind": "Runtime"}, "kind", ""), ({"apiVersion": "v2"}, "apiVersion", ""), ({"token": "x"}, "token", ""),
    ({"resources": {"a/b": {"file": "x", "policy": {"tee": ["sample"]}}}}, "resources.a/b", ""),
    ({"resources": {"a/../c": {"file": "x", "policy": {"tee": ["sample"]}}}}, "resources.a/../c", ""),
    ({"resources": {"a/b/c": {"file": "absent", "policy": {"tee": ["sample"]}}}}, "resources.a/b/c.file", "absent"),
])
def test_a_configuration_that_is_none(tmp_path: Path, more: Any, place: str, why: str) -> None:
    text = mistakes(write_config(tmp_path, **more))
    assert f"{place}" in text and why in text, text


def test_mistakes_come_together(tmp_path: Path) -> None:
    text = mistakes(write_config(tmp_path, {NAME: {"tee": ["sample"]}, "a/b/c": {"tee": ["snp"], "reference": "no"}},
                                 listen="192.0.2.1:1", allow_unconfidential=False))
    assert "3 problems" in text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_resource_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_config(tmp_path)
    (tmp_path / "demo-model-key.jwk").chmod(mode)
    assert "others may read it" in mistakes(path)


def test_tls_makes_it_reachable_from_elsewhere(tmp_path: Path) -> None:
    pair = issue(tmp_path / "ca", "kbs.lab", "192.0.2.1")
    certificate, key = tmp_path / "broker.pem", tmp_path / "broker.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    path = write_config(tmp_path, tls={"source": "files", "certificate": certificate.name, "key": key.name})
    assert release_of(path, "0.0.0.0:8443").certificates is not None
    assert release_of(path, "[::]:8443").address == ("::", 8443)


def test_a_certificate_of_vmtools_ca_is_for_where_the_broker_is_reached(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def made(names: Sequence[str]) -> Pair:
        asked.append(tuple(names))
        return issue(tmp_path / "ca", *names)

    path = write_config(tmp_path, tls={"source": "ca", "names": ["kbs.lab"]})
    assert read_release(LocalMachine(), path, "192.0.2.1:8443", made).certificates is not None
    assert read_release(LocalMachine(), path, "0.0.0.0:8443", made).certificates is not None
    assert asked == [("kbs.lab", "192.0.2.1", "localhost", "127.0.0.1", "::1"),
                     ("kbs.lab", "localhost", "127.0.0.1", "::1")]


def test_the_check_shows_what_would_be_released_to_whom(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, snp=SNP)
    path = write_config(tmp_path, {NAME: {"tee": ["sample"]}, "demo/other/key": {
        "tee": ["snp"], "reference": reference, "gpu": True, "signer": "s-1"}})
    shown = CliRunner().invoke(vmtool, ["key", "serve", str(path), "--check"])
    assert shown.exit_code == 0, shown.output
    assert "NO PROOF" in shown.output and "snp, a GPU, signer s-1" in shown.output
    assert not (tmp_path / "audit.jsonl").exists()


def test_the_check_makes_no_authority(tmp_path: Path) -> None:
    path, words = write_config(tmp_path, tls={"source": "ca"}), ["--state-dir", str(tmp_path / "state")]
    shown = CliRunner().invoke(vmtool, [*words, "key", "serve", str(path), "--check"])
    assert shown.exit_code == 0, shown.output
    assert "is not there yet" in shown.output and "https://" in shown.output
    assert not (tmp_path / "state").exists()
    read_authority(LocalHost(), tmp_path / "state" / "ca", datetime.now(UTC))
    assert "is not there yet" not in CliRunner().invoke(vmtool, [*words, "key", "serve", str(path), "--check"]).output


def test_the_audit_file_is_private_and_no_other_thing(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "a")
    audit.note("attest", "refused", "5" * 32, why="x" * 100_000)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600 and (tmp_path / "a").stat().st_size < 10_000
    assert "5" * 32 not in (tmp_path / "a").read_text()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for name in ("b", "."):
        with pytest.raises(OSError):
            Audit(tmp_path / name).note("attest", "refused")


def test_a_line_that_a_full_disk_cuts_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        Audit(tmp_path / "a").note("resource", "released")


def test_an_address_that_asks_too_often_waits() -> None:
    clock = [0.0]
    rates = Rates(60, lambda: clock[0])
    assert [rates.take("a") for _ in range(61)] == [True] * 60 + [False]
    assert rates.take("b") and rates.is_news("a") and not rates.is_news("a")
    clock[0] += 1
    assert rates.take("a") and not rates.take("a")
    for number in range(10_000):
        rates.take(str(number))
    assert len(rates.budgets.known) <= 4096


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=10), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["tee", "reference", "gpu", "model", "signer", "file", "policy", NAME, "a/b/c"]), inner, max_size=4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(VALUES, st.sampled_from(["resources", "limits", "tls", "listen", "collateral", "policy"]))
def test_no_other_value_is_a_configuration_or_a_crash(tmp_path: Path, value: Any, name: str) -> None:
    path = write_config(tmp_path)
    values = yaml.safe_load(path.read_text())
    good = dict(values)
    if name == "policy":
        values["resources"][NAME]["policy"] = value
    else:
        values[name] = value
    path.write_text(yaml.safe_dump(values))
    try:
        release_of(path)
    except Refused:
        return
    assert value in ({}, good.get(name), {"tee": ["sample"]}) or (isinstance(value, dict) and set(value) <= {
        "tee", "gpu", "reference", "model", "signer"}) or value in (None, [])


def test_a_broker_without_a_network_is_made(tmp_path: Path) -> None:
    assert broker(write_config(tmp_path)).decisions.release.rules[NAME].policy.is_sample


def test_a_line_that_was_cut_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"time": "2026-11')
    Audit(tmp_path / "a").note("attest", "refused")
    first, second = (tmp_path / "a").read_text().splitlines()
    assert first == '{"time": "2026-11' and json.loads(second)["step"] == "attest"
