"""Client and broker against what Trustee's public documents say of its interface: kbs/docs/kbs_attestation_protocol.md
and kbs/docs/initdata.md. No Trustee was run; a member that they do not name, or lack, fails here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.broker.cases import NAME, SECRET, InProcess, broker, write_config
from vmtool.attest.measure.init_data import init_data_text
from vmtool.serving.kbs.attesters import Attester, sample_evidence
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.exchange import PREFIX, fetch
from vmtool.serving.kbs.http_calls import Answer

TEXT = str
# Members that must be there, and those that may be, with their types; a mapping is an object of its own.
REQUEST = {"version": TEXT, "tee": TEXT, "extra-params": dict}
CHALLENGE = {"nonce": TEXT, "extra-params": (dict, TEXT)}
KEY = {"kty": TEXT, "crv": TEXT, "alg": TEXT, "x": TEXT, "y": TEXT}
ATTESTATION = {"init-data": {"format": TEXT, "body": TEXT}, "runtime-data": {"nonce": TEXT, "tee-pubkey": KEY},
               "tee-evidence": {"primary_evidence": dict, "additional_evidence": TEXT}}
TOKEN = {"token": TEXT}
RESPONSE = {"protected": TEXT, "encrypted_key": TEXT, "iv": TEXT, "ciphertext": TEXT, "tag": TEXT}
ERROR = {"type": TEXT, "detail": TEXT}


def fits(value: Any, form: Any, place: str = "") -> list[str]:
    """What is not as documented."""
    if not isinstance(form, Mapping):
        return [] if isinstance(value, form) else [f"{place}: {type(value).__name__}"]
    if not isinstance(value, dict) or value.keys() != form.keys():
        return [f"{place}: has {sorted(value) if isinstance(value, dict) else value}, documented: {sorted(form)}"]
    return [problem for name, each in form.items() for problem in fits(value[name], each, f"{place}/{name}")]


class Heard(InProcess):
    """Keeps both sides of each call."""

    def call(self, step: str, method: str, path: str, body: object = None,
             headers: Mapping[str, str] = {}) -> Answer:
        answer = super().call(step, method, path, body, headers)
        calls: list[tuple[str, str, Any, Any]] = self.__dict__.setdefault("calls", [])
        calls.append((method, path, body and json.loads(json.dumps(body)), json.loads(answer.body)))
        return answer


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    made, found = broker(write_config(tmp_path)), Heard("http://127.0.0.1:1")
    vars(found).update(vars(made))
    return found


def test_the_three_calls_are_as_documented(heard: Heard) -> None:
    assert fetch(heard, NAME, Attester("sample", "", sample_evidence), init_data_text("llama", "s-1")) == SECRET
    auth, attest, resource = vars(heard)["calls"]
    assert (auth[:2], fits(auth[2], REQUEST), fits(auth[3], CHALLENGE)) == (("POST", f"{PREFIX}/auth"), [], [])
    assert (attest[:2], fits(attest[2], ATTESTATION), fits(attest[3], TOKEN)) == (
        ("POST", f"{PREFIX}/attest"), [], [])
    assert attest[2]["init-data"]["format"] in ("json", "toml") and attest[3]["token"].count(".") == 2
    assert (resource[:2], fits(resource[3], RESPONSE)) == (("GET", f"{PREFIX}/resource/{NAME}"), [])


def test_a_refusal_is_as_documented(heard: Heard) -> None:
    with pytest.raises(KeyNotReleased):
        fetch(heard, NAME, Attester("snp", "", sample_evidence))
    refused = vars(heard)["calls"][-1][3]
    assert fits(refused, ERROR) == [] and refused["type"].startswith(
        "https://github.com/confidential-containers/kbs/errors/")


def test_what_is_not_documented_is_seen() -> None:
    assert fits({"token": "a.b.c", "more": 1}, TOKEN) and fits({}, TOKEN) and fits({"token": 1}, TOKEN)


def test_init_data_is_as_documented() -> None:
    found = tomllib.loads(init_data_text("llama", "s-1"))
    assert fits(found, {"version": TEXT, "algorithm": TEXT, "data": {"vmtool.toml": TEXT}}) == []
    assert (found["version"], found["algorithm"]) == ("0.1.0", "sha384")
