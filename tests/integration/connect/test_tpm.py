"""The collector of TPM quotes against real TPM code, Debian's swtpm, up to the verifier."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.integration.connect.software_tpm import swtpm
from tests.unit.attest.cases import is_accepted, request, unproven
from vmtool.attest.tpm.structures import parse_public
from vmtool.serving.evidence.collect import collect
from vmtool.serving.evidence.guest import NotCollected

BOUND = bytes(range(32))


def test_a_quote_of_a_real_tpm_is_proven_with_its_enrolled_key(tmp_path: Path) -> None:
    with swtpm(tmp_path) as guest:
        found, again = collect(BOUND, guest), collect(BOUND, guest)
    assert found and again and found.kind == "tpm"
    parts = json.loads(found.evidence)
    assert json.loads(again.evidence)["ak_public"] == parts["ak_public"], "the key is not always the same"
    assert set(parts["pcrs"]["sha256"]) == {str(number) for number in range(16)}
    name = parse_public(base64.b64decode(parts["ak_public"])).name.hex()
    values = {"keys": [name], "pcrs": {"sha256": {"4": parts["pcrs"]["sha256"]["4"]}}}
    assert is_accepted(found.evidence, request(nonce=BOUND, tpm=values))
    assert unproven(found.evidence, request(nonce=bytes(32), tpm=values)) == ["tpm.freshness"]
    assert unproven(found.evidence, request(nonce=BOUND, tpm={"keys": ["00"], "pcrs": values["pcrs"]})) == [
        "tpm.key-binding"]


def test_a_tpm_that_is_not_started_gives_nothing(tmp_path: Path) -> None:
    with swtpm(tmp_path, "--flags", "not-need-init") as guest, pytest.raises(NotCollected, match="fails with 0x100"):
        collect(BOUND, guest)
