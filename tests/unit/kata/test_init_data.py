"""The init data of a confidential guest with an encrypted model: what the host gives it is what the broker compares."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import replace
from typing import Any

from tests.fakes import plans
from tests.fakes.launches import launched
from tests.unit.kata.launches import facts, wish
from tests.unit.launch.cases import STATE, actions
from vmtool.attest.measure.init_data import ANNOTATION, init_data_text, init_data_value
from vmtool.attest.workers import compute_reference
from vmtool.broker.init_data import read_init_data
from vmtool.launch.pipeline import plan_launch
from vmtool.models.encryption.launch_facts import EncryptedModelFacts
from vmtool.plan import Plan, WriteFile

BROKER = {"resource": "demo/llama/key", "url": "https://kbs.lab:8080", "ca": "/o/ca.pem"}
MODEL = {"name": "llama", "path": "/m", "encryption": {"signer": "/o/s.jwk", "key": {"broker": BROKER}}}
TEXT = init_data_text("llama", "signer-1")


def sealed(**runtime: Any) -> Plan:
    tee = {"handler": "kata", "tee": "snp"} | runtime
    spec = wish(model=MODEL, runtime=tee, allow_unconfidential=tee["tee"] == "none")
    signed = EncryptedModelFacts("A" * 43 + "=:signer-1", ca="Cg==")
    return plan_launch(*launched(STATE, spec, replace(facts(spec), encrypted=signed)))


def test_the_text_is_what_the_broker_reads() -> None:
    found = read_init_data({"format": "toml", "body": TEXT})
    assert found and found.values == {"model": "llama", "signer": "signer-1"}
    assert found.digest == hashlib.sha384(TEXT.encode()).digest()
    assert init_data_value(TEXT, "snp") == found.digest[:32]
    assert init_data_value(TEXT, "tdx") == found.digest
    assert init_data_value(TEXT, "cca") == found.digest + bytes(16)
    assert init_data_value("", "snp") == bytes(32)


def test_the_shim_the_reference_and_the_entrypoint_have_the_same_text() -> None:
    made = sealed()
    run = plans.run(plans.step(made, "start the container with kata").actions, "--detach")
    [word] = [run.argv[at + 1] for at, each in enumerate(run.argv) if each == "--annotation"]
    name, _, value = word.partition("=")
    assert name == ANNOTATION and gzip.decompress(base64.b64decode(value)).decode() == TEXT
    assert base64.b64decode(run.argv[run.argv.index("--model-key-init-data") + 1]).decode() == TEXT
    [order] = plans.orders(actions(made), compute_reference)
    assert order["guest"]["init_data"] == TEXT
    written = plans.one(plans.step(made, "render the configuration").actions, WriteFile)
    assert '\nenable_annotations = ["cc_init_data"]\n' in written.text
    assert "security.annotations" not in "".join(step.title for step in made.steps), "the TEE binds evidence to it"


def test_where_nothing_binds_it_there_is_none() -> None:
    run = plans.run(plans.step(sealed(tee="none"), "start the container with kata").actions, "--detach")
    assert "--annotation" not in run.argv and "--model-key-init-data" not in run.argv
    early = facts(wish(model=MODEL, runtime={"handler": "kata", "tee": "snp", "kata": {"version": "3.15"}}))
    assert not early.guest.request.takes_init_data, "a release before it"
