"""Launching an encrypted model: its key's way, what is refused beforehand, and the claims."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.launch import cases
from tests.unit.models.encryption.make import Owner, plain_model
from vmtool.errors import Refused
from vmtool.host.local import LocalMachine
from vmtool.machine import Output
from vmtool.models.encryption.launch_facts import EncryptedModelFacts, read_encrypted
from vmtool.serving.cryptotensors.jwk import encode
from vmtool.serving.events import event_text
from vmtool.spec.encryption import Encryption
from vmtool.spec.load import read_spec
from vmtool.spec.runtime import Spec
from vmtool.stage.encryption import EncryptionStage
from vmtool.stage.launch import digest

SIGNER = "A" * 43 + "=:signer-1"
ENCRYPTION = {"signer": "/o/signer.jwk", "key": {"file": "/o/master.jwk"}}
MODEL: dict[str, Any] = {"name": "m", "path": "/m", "encryption": ENCRYPTION}


def wish(**changes: Any) -> Spec:
    return cases.wish(**({"model": MODEL} | changes))


def shown(**changes: Any) -> list[str]:
    plan = cases.plan(wish(**changes), encrypted=EncryptedModelFacts(SIGNER))
    return [action.shell() for action in cases.actions(plan)]


def test_the_models_key_goes_straight_from_its_file_into_the_verified_container_before_the_api_keys() -> None:
    lines = shown()
    places = [next(number for number, line in enumerate(lines) if word in line) for word in (
        " run --detach", "--before-key", "receive_keys /run/vmtool/model-key < /o/master.jwk",
        "receive_keys /run/vmtool/api-key <")]
    assert places == sorted(places)
    named = [line for line in lines if "master.jwk" in line]
    assert len(named) == 2 and named[1] == lines[places[2]]
    assert "/s/instances/a/spec.json" in named[0], "nothing else but the spec has its path"


BROKER = {"resource": "demo/llama/key", "url": "https://kbs.lab:8080", "ca": "/o/ca.pem"}


def of_a_broker(**broker: Any) -> dict[str, Any]:
    return MODEL | {"encryption": {"signer": "/o/signer.jwk", "key": {"broker": broker}}}


def test_a_brokers_key_never_comes_here() -> None:
    plan = cases.plan(wish(model=of_a_broker(**BROKER)), encrypted=EncryptedModelFacts(SIGNER, (), "UEVN"))
    lines = [action.shell() for action in cases.actions(plan)]
    assert not any("receive_keys /run/vmtool/model-key" in line for line in lines)
    [line] = [line for line in lines if " run --detach" in line]
    assert (f"--model-signer {SIGNER} --model-key-resource demo/llama/key --model-key-broker https://kbs.lab:8080 "
            "--model-key-ca UEVN --allow-unconfidential ") in line


def test_the_entrypoint_is_given_which_model_it_is() -> None:
    pinned = MODEL | {"encryption": ENCRYPTION | {"manifest": "sha256:" + "1" * 64}}
    [line] = [line for line in shown(model=pinned) if " run --detach" in line]
    assert f"--model-signer {SIGNER} --model-manifest sha256:{'1' * 64} " in line


def test_the_brokers_ca_is_read_beforehand(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    model = owner.model(plain_model(tmp_path / "plain"), tmp_path / "model")
    for name, text in (("absent.pem", None), ("bad.pem", "x"), ("key.pem", owner.key.read_text())):
        if text is not None:
            (tmp_path / name).write_text(text)
        asked = Encryption.model_validate({"signer": owner.sign, "key": {"broker": BROKER | {"ca": tmp_path / name}}})
        found = read_encrypted(LocalMachine(), model, asked)
        assert [problem[0] for problem in found.problems] == ["encryption.key.broker.ca"]


@pytest.mark.parametrize("key", [
    {}, {"file": "/k", "broker": BROKER}, {"broker": {}}, {"broker": BROKER | {"url": "http://kbs.lab"}},
    {"broker": {"resource": "a/b/c", "url": "https://kbs.lab"}}, {"broker": {"resource": "a/b/c", "ca": "/ca"}},
    {"broker": BROKER | {"resource": "a/b"}}, {"broker": BROKER | {"url": "https://u:p@kbs.lab"}},
    {"broker": BROKER | {"key": "x"}}])
def test_a_source_of_keys_that_is_none(key: Any) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        Encryption.model_validate({"signer": "/s", "key": key})


def test_the_entrypoint_is_given_the_signer_and_the_profile_and_vllm_the_load_format() -> None:
    [line] = [line for line in shown() if " run --detach" in line]
    assert f"--hardening strict --model-signer {SIGNER} " in line
    assert line.endswith("-- --load-format=cryptotensors")
    assert "src=/m,dst=/models/local,options=bind:ro" in line


def test_the_small_server_is_given_no_load_format() -> None:
    [line] = [line for line in shown(model=MODEL | {"engine": "transformers"}) if " run --detach" in line]
    assert f"--model-signer {SIGNER}" in line and "load-format" not in line


def test_a_spec_that_says_nothing_of_it_is_what_it_was() -> None:
    assert digest(wish(model={"name": "m", "path": "/m"})) == digest(cases.wish())
    assert digest(wish()) != digest(cases.wish())
    pinned = MODEL | {"encryption": ENCRYPTION | {"manifest": "sha256:" + "1" * 64}}
    assert digest(wish(model=pinned)) != digest(wish())
    assert digest(wish(model=MODEL | {"encryption": ENCRYPTION | {"manifest": None}})) == digest(wish())


@pytest.mark.parametrize(("changes", "where", "why"), [
    ({"model": MODEL | {"trust_remote_code": True}}, "model.trust_remote_code", "write it down in clear"),
    ({"vllm": {"args": {"load-format": "sharded_state"}}}, "vllm.args.load-format", "reads or leaves weights in clear"),
    ({"vllm": {"args": {"load-format": "ipc_cache"}}}, "vllm.args.load-format", "reads or leaves weights in clear"),
    ({"vllm": {"args": {"speculative-config": {"method": "eagle"}}}}, "vllm.args.speculative-config", "draft model"),
    ({"vllm": {"files": {"spec-model": "/draft"}}}, "vllm.files.spec-model", "draft model"),
    ({"vllm": {"args": {"worker-extension-cls": "x.Y"}, "allow": ["code"]}}, "vllm.args.worker-extension-cls", "code"),
    ({"vllm": {"env": {"TRUST_REMOTE_CODE": "1"}, "allow": ["unknown"]}}, "vllm.env.TRUST_REMOTE_CODE", "in clear"),
    ({"vllm": {"env": {"VLLM_PLUGINS": "x"}, "allow": ["code"]}}, "vllm.env.VLLM_PLUGINS", "leave it out"),
    ({"model": {"name": "m", "source": "huggingface", "repository": "a/b", "encryption": ENCRYPTION}}, "model",
     "source: local"),
    ({"model": MODEL | {"encryption": {"signer": "/s"}}}, "model.encryption.key", "missing"),
    ({"model": MODEL | {"encryption": ENCRYPTION | {"keys": 1}}}, "model.encryption.keys", "did you mean 'key'?"),
])
def test_what_does_not_go_with_it_is_refused_at_its_line(tmp_path: Path, changes: dict[str, Any], where: str,
                                                         why: str) -> None:
    body = {"runtime": {"handler": "runc"}, "allow_unconfidential": True, "model": MODEL, **changes}
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "a"},
                                    "spec": body}))
    with pytest.raises(Refused) as refused:
        read_spec(file)
    assert [line for line in refused.value.details if f"spec.{where}:" in line and why in line], refused.value.details


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    model = {"name": "m", "path": "m", "encryption": {"signer": "s.jwk", "key": {"file": "k.jwk"}}}
    file.write_text(yaml.safe_dump({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "a"},
                                    "spec": {"model": model}}))
    encryption = read_spec(file).spec.model.encryption
    assert encryption and (encryption.signer, encryption.key.file) == (tmp_path / "s.jwk", tmp_path / "k.jwk")


@pytest.mark.parametrize(("profile", "handler", "why"), [
    ("ipc-host", "kata", "shares no memory"), ("private-shm", "libvirt", "shares no memory")])
def test_a_profile_of_containers_is_none_of_guests(profile: str, handler: str, why: str) -> None:
    launch: Any = type("Launch", (), {"encrypted": None, "body": wish(
        model={"name": "m", "path": "/m"}, runtime={"handler": handler}, hardening={"profile": profile}).spec})
    assert [why in each.detail for each in EncryptionStage().check(launch)] == [True]


@pytest.mark.parametrize(("profile", "words"), [
    ("default", ["dst=/dev/shm,options=rw:noexec:nosuid:nodev", "--hardening strict"]),
    ("ipc-host", ["--with-ns ipc:/proc/self/ns/ipc", "type=bind,src=/dev/shm,dst=/dev/shm", "--hardening ipc-host"]),
    ("private-shm", ["dst=/dev/shm,options=rw:exec:nosuid:nodev", "dst=/root/.triton,options=rw:exec:nosuid:nodev",
                     "dst=/root/.cache,options=rw:exec:nosuid:nodev", "--hardening private-shm"])])
def test_a_profile_is_how_the_container_is_started_and_what_is_checked_inside(profile: str, words: list[str]) -> None:
    [line] = [line for line in shown(hardening={"profile": profile}) if " run --detach" in line]
    assert [word for word in words if word not in line] == []
    assert ("ipc:" in line) == (profile == "ipc-host")


class Found:
    """An owner's model, and a reader of it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.owner = Owner(directory)
        self.model = self.owner.model(plain_model(directory / "plain"), directory / "model")
        self.encryption = Encryption.model_validate({"signer": self.owner.sign, "key": {"file": self.owner.key}})
        monkeypatch.setattr(LocalMachine, "run", self.find)

    @staticmethod
    def find(machine: LocalMachine, argv: tuple[str, ...], deadline: float = 10.0) -> Output:
        path = Path(argv[2])
        if not path.exists():
            return Output(1, "", "")
        kind = "p" if path.is_fifo() else "d" if path.is_dir() else "f"
        return Output(0, f"{kind} {path.stat().st_mode & 0o777:o}", "")

    def read(self, **changes: Any) -> EncryptedModelFacts:
        return read_encrypted(LocalMachine(), self.model, self.encryption.model_copy(update=changes))


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    return Found(tmp_path, monkeypatch)


def test_the_signer_is_read_and_a_sound_model_has_no_problem(found: Found) -> None:
    signer = found.owner.signer
    assert found.read() == EncryptedModelFacts(f"{encode(signer.public)}:{signer.kid}")


def pipe(found: Found) -> None:
    found.owner.key.unlink()
    os.mkfifo(found.owner.key, 0o600)


def test_a_pipe_is_not_read_beforehand(found: Found) -> None:
    pipe(found)
    assert found.read().problems == ()


@pytest.mark.parametrize(("change", "place", "why"), [
    (lambda found: (found.model / "vmtool-manifest.json").unlink(), "path", "is not an encrypted model"),
    (lambda found: (found.model / "config.json").write_text("{}"), "path", "not of the size that was signed"),
    (lambda found: (found.model / "config.json").unlink(), "path", "config.json: missing"),
    (lambda found: (found.model / "vmtool-manifest.json").write_text("{}"), "encryption.signer", "has schema"),
    (lambda found: found.owner.key.chmod(0o644), "encryption.key.file", "others may read the key"),
    (lambda found: found.owner.key.unlink(), "encryption.key.file", "no such file"),
    (lambda found: found.owner.key.write_text("x"), "encryption.key.file", "not JSON"),
    (lambda found: found.owner.key.write_bytes(found.owner.sign.read_bytes()), "encryption.key.file", "a signing key"),
    (lambda found: found.owner.sign.unlink(), "encryption.signer", "no such file"),
    (lambda found: found.owner.sign.write_bytes(found.owner.key.read_bytes()), "encryption.signer", "not the signer"),
], ids=range(10))
def test_what_is_wrong_is_told_before_anything_is_started(found: Found, change: Callable[[Found], object], place: str,
                                                          why: str) -> None:
    change(found)
    problems = found.read().problems
    assert [(key, why in text) for key, text, _ in problems] == [(place, True)], problems
    assert found.owner.master.secret.hex() not in repr(problems) and encode(found.owner.master.secret) not in repr(
        problems)


def test_another_signer_is_refused(found: Found, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Owner(tmp_path / "other")
    [(place, text, _)] = found.read(signer=other.sign).problems
    assert place == "encryption.signer" and "not signed by" in text


def test_another_model_of_the_same_owner_is_refused_where_one_is_named(found: Found) -> None:
    digest = hashlib.sha256((found.model / "vmtool-manifest.json").read_bytes()).hexdigest()
    assert found.read(manifest=f"sha256:{digest}").problems == ()
    [(place, text, hint)] = found.read(manifest="sha256:" + "0" * 64).problems
    assert (place, digest in text, hint.startswith("sha256sum ")) == ("encryption.manifest", True, True)


def claims_of(tmp_path: Path, log: str, **changes: Any) -> dict[str, tuple[str, str]]:
    one = cases.instance(tmp_path)
    one.paths.spec.write_text(wish(**changes).model_dump_json(by_alias=True))
    one.paths.log.parent.mkdir(exist_ok=True)
    one.paths.log.write_text(log)
    return {each.id: (each.verdict, each.evidence) for each in EncryptionStage().claims(
        LocalMachine(), one, whole=True)}


def test_the_claims_are_what_the_entrypoint_found(tmp_path: Path) -> None:
    said = event_text(time.time(), "model-opened", signer="signer-1", key="A", files=2, tensors=5,
                      algorithm="aes256gcm", seconds=0.01)
    found = claims_of(tmp_path, f"vmtool     0.31 s  {said}\n")
    assert found["model.signature"] == (
        "proven", "the entrypoint checked manifest and headers: signed by signer-1")
    assert found["model.encrypted"] == (
        "proven", "5 tensors in 2 files, every one encrypted with aes256gcm; load format cryptotensors")
    assert {verdict for verdict, _ in claims_of(tmp_path, "").values()} == {"not-checked"}


@pytest.mark.parametrize(("found", "verdict"), [("1" * 64, "proven"), ("2" * 64, "failed"), ("", "failed")])
def test_a_model_that_the_spec_names_is_the_one_that_was_opened(tmp_path: Path, found: str, verdict: str) -> None:
    said = event_text(time.time(), "model-opened", signer="signer-1", key="A", manifest=found, files=2, tensors=5,
                      algorithm="aes256gcm", seconds=0.01)
    pinned = MODEL | {"encryption": ENCRYPTION | {"manifest": "sha256:" + "1" * 64}}
    assert claims_of(tmp_path, f"vmtool     0.31 s  {said}\n", model=pinned)["model.signature"][0] == verdict


def test_a_model_in_clear_has_no_such_claims(tmp_path: Path) -> None:
    one = cases.instance(tmp_path)
    one.paths.spec.write_text(cases.wish().model_dump_json(by_alias=True))
    assert list(EncryptionStage().claims(LocalMachine(), replace(one), whole=True)) == []
    assert json.loads(one.paths.spec.read_text())["spec"]["model"]["encryption"] is None
