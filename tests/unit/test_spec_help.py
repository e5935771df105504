"""`vmtool spec`: every key is explained, every example works, and the schema is the one that is shipped."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from tests.fakes.launches import Found, launched
from tests.unit.kata import launches as kata
from tests.unit.launch import cases as runc
from tests.unit.libvirt import cases as libvirt
from vmtool.cli.main import vmtool
from vmtool.errors import Refused
from vmtool.launch.pipeline import plan_launch
from vmtool.rendering import shipped
from vmtool.spec.commands import EXAMPLES
from vmtool.spec.json_schema import schema_text
from vmtool.spec.keys import Key, all_keys
from vmtool.spec.load import read_spec
from vmtool.spec.resources import Accelerators

KEYS = tuple(all_keys())
SCHEMA = shipped("images") / "runtime.schema.json"


def ask(*words: str) -> str:
    result = CliRunner().invoke(vmtool, ["spec", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


@functools.cache
def validator() -> jsonschema.protocols.Validator:
    """Of the schema that vmtool prints, which is one itself."""
    schema = json.loads(schema_text())
    found = jsonschema.validators.validator_for(schema)
    found.check_schema(schema)
    return found(schema)


def at(path: str, value: Any) -> dict[str, Any]:
    made: Any = value
    for name in reversed(path.split(".")):
        made = {name: made}
    found: dict[str, Any] = made
    return found


def merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {name: merged(base.get(name), value) for name, value in change.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("key", KEYS, ids=[key.path for key in KEYS])
def test_every_key_is_explained_and_its_example_is_read(key: Key, tmp_path: Path) -> None:
    """A key without a line under `Args:` of its model's docstring, or without an example, fails here."""
    assert key.meaning and not key.meaning.endswith(".")
    assert bool(key.inner) == (key.type == "a section")
    told = ask("explain", key.path)
    assert told.startswith(key.path) and key.meaning in told and key.type in told
    if key.inner:
        return
    assert key.example, key.path
    handler = next((name for name in ("kata", "libvirt") if key.path.startswith(f"spec.runtime.{name}")), "runc")
    base: dict[str, Any] = {"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "a"}, "spec": {
        "runtime": {"handler": "kata" if key.path == "spec.runtime.tee" else handler}, "allow_unconfidential": True,
        "model": {"name": "m", "path": "/m"}}}
    if key.path == "spec.model.repository":
        base["spec"]["model"] = {"name": "m", "source": "huggingface"}
    if key.path.startswith("spec.model.encryption"):
        base["spec"]["model"]["encryption"] = {"signer": "/s", "key": {"file": "/k"}}
    if key.path.startswith("spec.model.encryption.key.broker"):
        base["spec"]["model"]["encryption"]["key"] = {"broker": {"resource": "a/b/c", "url": "https://b", "ca": "/ca"}}
    if key.path.startswith("spec.canary."):
        base["spec"]["canary"] = {"prompt": "a", "expect": "b"}
    if key.path in ("spec.tls.certificate", "spec.tls.key"):
        base["spec"]["tls"] = {"source": "files", "certificate": "/c", "key": "/k"}
    if key.path in ("spec.tls.names", "spec.tls.clients"):
        base["spec"]["tls"] = {"source": "ca"}
    value = yaml.safe_load(f"key: {key.example}")["key"]
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(merged(base, at(key.path, value))))
    read_spec(file)
    validator().validate(yaml.safe_load(file.read_text()))


def test_without_a_path_all_keys_are_listed() -> None:
    assert [line.split()[0] for line in ask("explain").splitlines()] == [key.path for key in KEYS]


@pytest.mark.parametrize(("asked", "found"), [
    ("resources.memory", "spec.resources.memory"), ("spec.vllm.args.max-model-len", "spec.vllm.args"),
    ("vllm.env.OMP_NUM_THREADS", "spec.vllm.env"), ("spec.network.publish.0", "spec.network.publish"),
    ("metadata.name", "metadata.name"), ("spec", "spec"),
])
def test_a_key_is_found_by_how_a_person_or_an_error_names_it(asked: str, found: str) -> None:
    assert ask("explain", asked).splitlines()[0] == found


@pytest.mark.parametrize(("asked", "near"), [("resources.memroy", "resources.memory"), ("vllm.arg", "vllm.args"),
                                             ("spec.runtime.handler.x", "spec.runtime.handler")])
def test_an_unknown_key_is_refused_with_what_was_meant(asked: str, near: str) -> None:
    error = CliRunner().invoke(vmtool, ["spec", "explain", asked]).exception
    assert isinstance(error, Refused) and f"did you mean {near!r}?" in error.message
    assert error.hint == "vmtool spec explain"


@pytest.mark.parametrize("handler", sorted(EXAMPLES))
def test_each_example_is_read_valid_and_planned(handler: str, tmp_path: Path) -> None:
    text = ask("example", handler)
    file = tmp_path / "runtime.yaml"
    file.write_text(text)
    spec = read_spec(file)
    validator().validate(yaml.safe_load(text))
    assert spec.spec.runtime.handler == handler
    if handler == "runc":
        assert runc.plan(spec).changes
    elif handler == "libvirt":
        found = Found(libvirt.host(), runc.MODEL, None, guest=libvirt.facts())
        assert plan_launch(*launched(runc.STATE, spec, found)).changes
    else:
        plain = kata.host()
        large = replace(plain, memory=replace(plain.memory, total=64 << 30), cpu=replace(plain.cpu, cores=8))
        # No recorded host has a GPU that is bound with iommufd: the rest of it is planned.
        resources = spec.spec.resources.model_copy(update={"accelerators": Accelerators()})
        spec = spec.model_copy(update={"spec": spec.spec.model_copy(update={"resources": resources})})
        assert kata.plan(spec, on=large).changes


def test_the_schema_is_shipped() -> None:
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        SCHEMA.write_text(schema_text())
    assert SCHEMA.read_text() == schema_text(), "VMTOOL_WRITE_GOLDEN=1 writes it again"
    assert ask("schema") == schema_text()
    assert isinstance(validator(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("change", [
    {"spec": {"modle": {}}}, {"spec": {"runtime": {"handler": "docker"}}}, {"spec": {"resources": {"memory": 2048}}},
    {"spec": {"resources": {"cpus": "2"}}}, {"spec": {"vllm": {"env": {"A": True}}}}, {"kind": "Pod"},
    {"spec": {"vllm": {"args": 5}}}, {"spec": {"vllm": {"allow": ["everything"]}}},
        {"spec": {"network": {"publish": 8000}}},
])
def test_an_editor_sees_what_vmtool_refuses(change: dict[str, Any]) -> None:
    good = yaml.safe_load((shipped("images") / "quickstart.yaml").read_text())
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(merged(good, change))
