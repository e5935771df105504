"""What the entrypoint does about an encrypted model before the engine starts, and what its log says of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.models.encryption.make import Owner, plain_model
from vmtool.serving.arguments import Arguments, engine_command, parse
from vmtool.serving.cryptotensors.jwk import encode, key_text
from vmtool.serving.encrypted.bundle import unpack
from vmtool.serving.encrypted.prepare import PLUGINS, EncryptedModel, prepare
from vmtool.serving.encrypted.process import AGENT


class Scene:
    """A container in which the keys have come."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.said = directory, list[str]()
        (directory / "own").mkdir()
        (directory / "secret").mkdir()
        self.owner = Owner(directory)
        self.model = self.owner.model(plain_model(directory / "plain"), directory / "model")
        self.handed = directory / "secret" / "model-key"
        self.handed.write_text(key_text(self.owner.master))

    def arguments(self, *words: str) -> Arguments:
        signer = self.owner.signer
        return parse(["--model", str(self.model), "--served-model-name", "m", "--listen", "0.0.0.0:8000",
                      "--api-key-file", str(self.directory / "secret" / "api-key"), "--hardening", "strict",
                      "--model-signer", f"{encode(signer.public)}:{signer.kid}", *words, "--",
                      "--load-format=cryptotensors", "-tp", "2"])

    def prepare(self) -> EncryptedModel | None:
        return asyncio.run(prepare(self.arguments(), self.directory / "own", self.said.append))

    @property
    def secrets(self) -> list[str]:
        """The master key as text; a log line may have no form of it."""
        return [self.owner.master.secret.hex(), encode(self.owner.master.secret)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name in ("LD_PRELOAD", "VLLM_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return Scene(tmp_path)


def test_the_engine_gets_a_view_and_a_way_to_the_agent_but_no_key(scene: Scene) -> None:
    found = scene.prepare()
    assert found
    assert not scene.handed.exists(), "the file with the key is gone as soon as it was read"
    assert os.listdir(found.view) == ["config.json"] and found.view.stat().st_mode & 0o077 == 0
    assert found.environment[AGENT] == str(scene.directory / "own" / "model-keys.sock")
    assert found.environment["VLLM_PLUGINS"] == "vmtool_cryptotensors"
    assert str(PLUGINS) in found.environment["PYTHONPATH"].split(":")
    assert found.agent.workers == 2
    bundle = unpack(found.agent.packed)
    assert (bundle.directory, bundle.view, len(bundle.keys)) == (scene.model, found.view, 5 * 32)
    command = engine_command(scene.arguments(), "python3", Path("/s"), found.view)
    assert command[command.index("--model") + 1] == str(found.view)
    everything = repr((scene.said, found.environment, command, found.agent.packed, found))
    assert not [secret for secret in scene.secrets if secret in everything]
    assert repr(scene.owner.master.secret)[2:-1] not in everything
    event = json.loads(scene.said[0].partition(" ")[2])
    assert (event["event"], event["files"], event["tensors"], event["signer"]) == (
        "model-opened", 2, 5, scene.owner.signer.kid)


def other_key(scene: Scene) -> None:
    (scene.directory / "other").mkdir()
    scene.handed.write_text(key_text(Owner(scene.directory / "other").master))


@pytest.mark.parametrize(("change", "why"), [
    (other_key, "the key does not open this file: it is another model's"),
    (lambda scene: scene.handed.unlink(), "no key for the model came"),
    (lambda scene: scene.handed.write_text(""), "the key: not JSON"),
    (lambda scene: scene.handed.write_text("x" * 20_000), "not a key"),
    (lambda scene: scene.handed.write_text(key_text(scene.owner.signer)), "is a signing key"),
    (lambda scene: (scene.model / "config.json").write_text("{}"), "config.json: not the file that was signed"),
    (lambda scene: (scene.model / "vmtool-manifest.json").unlink(), "no such file"),
    (lambda scene: (scene.model / "evil.py").write_text(""), "'evil.py' is next to the model"),
], ids=range(8))
def test_what_is_wrong_is_said_and_nothing_is_started(scene: Scene, change: Callable[[Scene], object],
                                                      why: str) -> None:
    change(scene)
    assert scene.prepare() is None
    assert f"the encrypted model is refused: {why}" in scene.said[-1] or why in scene.said[-1]
    assert json.loads(scene.said[0].partition(" ")[2])["event"] == "model-refused"
    assert not [secret for secret in scene.secrets for line in scene.said if secret in line]


def test_a_variable_of_the_containers_is_refused_by_its_name(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_TRUST_REMOTE_CODE", "1")
    assert scene.prepare() is None
    assert "HF_HUB_TRUST_REMOTE_CODE: code of the model's own" in scene.said[-1]


def test_vllm_finds_the_plugin_by_its_entry_point() -> None:
    [place] = PLUGINS.glob("*.dist-info/entry_points.txt")
    assert place.read_text().splitlines() == [
        "[vllm.general_plugins]", "vmtool_cryptotensors = vmtool.serving.encrypted.vllm_plugin:register"]
    assert (place.parent / "METADATA").read_text().splitlines()[1:] == ["Name: vmtool-cryptotensors", "Version: 1"]
