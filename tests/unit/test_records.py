"""Records come back as they were written, and what is none is not taken for one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.gpu import saved_state
from vmtool.image import installed
from vmtool.instance import instance
from vmtool.net.network import Attachment, Network, attachment_of, network_of
from vmtool.records import CHECKSUM, record_of, record_text

DATA = Path(__file__).parents[1] / "data"
KINDS = (saved_state.GpuSavedState, installed.ImportedImage, instance.InstanceRecord, Network, Attachment)
EARLIER = [(DATA / "records" / f"{name}.json", kind) for name, kind in (
    ("gpu-device", saved_state.GpuSavedState), ("network", Network), ("net-attachment", Attachment))]
NETWORK = {"name": "lab", "bridge": "vmt-lab", "subnet": "10.55.0.0/24", "owner": ""}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@given(data=st.data())
def test_every_record_comes_back_as_it_was(kind: type, data: st.DataObject) -> None:
    texts = st.dictionaries(st.text(), st.text())
    record = data.draw(st.builds(kind, **{each.name: texts if each.name == "details" else ...
                                          for each in dataclasses.fields(kind)}))
    assert record_of(kind, record_text(record)) == record


@pytest.mark.parametrize(("path", "kind"), EARLIER)
def test_an_earlier_record_is_written_again_as_it_was(path: Path, kind: type) -> None:
    again, before = json.loads(record_text(record_of(kind, path.read_text()))), json.loads(path.read_text())
    assert {name: value for name, value in again.items() if name in before} == before
    assert not any(value for name, value in again.items() if name not in (*before, CHECKSUM))


def test_a_changed_record_is_none() -> None:
    """One byte of a value, a field that is gone, the checksum itself; not what a person did to blanks."""
    text = record_text(Network(**NETWORK))
    assert record_of(Network, " " + text.replace("\n", "\r\n")) == Network(**NETWORK)
    for old, new in (("vmt-lab", "vmt-lbb"), ('  "owner": "",\n', ""), ('"checksum": "', '"checksum": "0'),
                     ("10.55", "10.54")):
        with pytest.raises(ValueError, match="its checksum does not fit"):
            record_of(Network, text.replace(old, new))


def test_a_record_that_is_older_than_a_field_has_its_default() -> None:
    values = {name: value for name, value in NETWORK.items() if name != "owner"}
    assert record_of(Network, json.dumps(values)) == Network(**NETWORK)


@pytest.mark.parametrize(("change", "why"), [
    ({"more": 1}, "Network has no 'more'"), ({"name": 7}, "Network.name is 7"), ({"name": None}, "Network.name is nul"),
    ({"bridge": ["a"]}, 'Network.bridge is ["a"]'), ({"owner": True}, "Network.owner is true")])
def test_what_a_field_cannot_hold_is_told_with_its_place(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        record_of(Network, json.dumps(NETWORK | change))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "7", "{}", '{"name": "lab"}', "[" * 100_000])
def test_what_is_torn_or_foreign_is_no_record(text: str) -> None:
    with pytest.raises(ValueError):
        record_of(Network, text)
    assert network_of(text) is None
    assert attachment_of(text) is None


def test_a_network_has_a_sound_subnet() -> None:
    assert network_of(json.dumps(NETWORK)) == Network(**NETWORK)
    assert network_of(json.dumps(NETWORK | {"subnet": "10.55.0.1/24"})) is None


def test_a_true_is_no_number() -> None:
    text = json.dumps({"network": "a", "container_id": "b", "netns": "c", "directory": "d",
                       "publish": [{"host_port": True, "container_port": 1}]})
    with pytest.raises(ValueError, match=r"Attachment\.publish\.host_port is true"):
        record_of(Attachment, text)
