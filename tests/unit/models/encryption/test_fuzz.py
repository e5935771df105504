"""Headers, manifests, keys and init data that are nearly right, signed by their very owner: refused, or within every
rule. Few examples; 500 with --slow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.models.encryption.make import Owner, plain_file
from vmtool.broker.init_data import read_init_data
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.header import POLICY, parse
from vmtool.serving.cryptotensors.jwk import encode, key_text, read_key
from vmtool.serving.cryptotensors.manifest import FILE, NAME, is_clear, read_manifest

SMALL = {"a": ("F32", [2], b"12345678"), "b": ("U8", [3], b"abc")}
SCALARS = st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["", "2", "aes256gcm", "../x", "/etc/passwd", "x.safetensors", ".hidden", "AAAA", "\ud800", "0" * 64])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["a", "alg", "kid", "jku", "name", "size", "tags", "shape"]) | st.text(max_size=4), inner,
    max_size=3), max_leaves=6)


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value within."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in ((*before, key), *places(each, (*before, key)))]


def changed(value: Any, data: st.DataObject) -> Any:
    """The value with something else somewhere: replaced, taken away, or added."""
    found = json.loads(json.dumps(value))
    *way, last = data.draw(st.sampled_from(places(found)))
    where = found
    for key in way:
        where = where[key]
    how = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "replace":
        where[last] = data.draw(JSON)
    elif how == "remove":
        del where[last]
    elif isinstance(where, dict):
        where[data.draw(st.text(max_size=6))] = data.draw(JSON)
    else:
        where.append(data.draw(JSON))
    assume(found != value)
    return found


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def refused(call: Callable[[], object]) -> bool:
    """Whether it is, in the one way that callers expect."""
    try:
        call()
    except Untrusted:
        return True
    return False


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def header(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a small file; what are texts of JSON in it are values here."""
    directory = tmp_path_factory.mktemp("sealed")
    data = owner.encrypt(plain_file(directory / "plain", SMALL), directory / "sealed").read_bytes()
    values: dict[str, Any] = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    for name in ("__crypto_keys__", "__encryption__", "__policy__"):
        values["__metadata__"][name] = json.loads(values["__metadata__"][name])
    return values


@pytest.fixture(scope="module")
def manifest(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("model")
    (directory / "plain").mkdir()
    plain_file(directory / "plain" / "model.safetensors", SMALL)
    (directory / "plain" / "config.json").write_text("{}")
    values: dict[str, Any] = json.loads((owner.model(directory / "plain", directory / "out") / NAME).read_text())
    return values


def header_text(values: dict[str, Any], owner: Owner) -> bytes:
    """As a file has it, signed again."""
    metadata = values.get("__metadata__")
    if isinstance(metadata, dict):
        texts = {name: each if isinstance(each, str) or not name.startswith("__") else compact(each)
                 for name, each in metadata.items() if name != "__signature__"}
        signed = compact(values | {"__metadata__": texts}).encode(errors="surrogatepass")
        texts["__signature__"] = encode(owner.signer.sign(signed))
        values = values | {"__metadata__": dict(sorted(texts.items()))}
    text = compact(values).encode(errors="surrogatepass")
    return text + b" " * (-len(text) % 8)


def test_what_is_changed_here_is_right_before(owner: Owner, header: dict[str, Any], manifest: dict[str, Any]) -> None:
    assert [each.name for each in parse(header_text(header, owner), 11).tensors] == ["a", "b"]
    assert len(read_manifest(json.dumps(manifest).encode(), owner.signer).files) == 2


@given(st.data())
def test_a_header_that_is_not_refused_keeps_every_rule(owner: Owner, header: dict[str, Any], data: Any) -> None:
    text = header_text(changed(header, data), owner)
    try:
        found = parse(text, 11)
    except Untrusted:
        return
    assert found.text() == text and set(found.encrypted) == {each.name for each in found.tensors}
    assert [each.start for each in found.tensors] == [0, *(each.end for each in found.tensors)][:-1]
    assert found.data_size == 11 and json.dumps(POLICY)[1:-1].encode() in text and b"jku" not in text


@given(st.data())
def test_a_manifest_that_is_not_refused_names_files_of_the_directory_alone(owner: Owner, manifest: dict[str, Any],
                                                                           data: Any) -> None:
    values = changed(manifest, data)
    unsigned = json.dumps({name: each for name, each in values.items() if name != "signature"}, sort_keys=True,
                          separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    text = json.dumps(values | {"signature": encode(owner.signer.sign(unsigned))}).encode()
    try:
        found = read_manifest(text, owner.signer)
    except Untrusted:
        return
    assert all(FILE.fullmatch(each.name) and Path(each.name).name == each.name for each in found.files)
    assert all(each.encrypted or each.sha256 for each in found.files) and is_clear("config.json")


@given(st.data())
def test_nobody_but_the_owner_can_change_a_manifest(owner: Owner, manifest: dict[str, Any], data: Any) -> None:
    values = changed(manifest, data)
    assert refused(lambda: read_manifest(json.dumps(values).encode(), owner.signer))


@given(st.data())
def test_a_key_is_one_or_is_refused(owner: Owner, data: Any) -> None:
    key = data.draw(st.sampled_from([owner.master, owner.signer]))
    values = changed(json.loads(key_text(key)), data)
    try:
        found = read_key(json.dumps(values).encode())
    except Untrusted:
        return
    assert set(json.loads(key_text(found))) >= set(values) - {"kid", "d"}


@given(st.binary(max_size=200))
def test_no_bytes_are_a_manifest_or_a_key(owner: Owner, text: bytes) -> None:
    assert refused(lambda: read_manifest(text, owner.signer)) and refused(lambda: read_key(text))


INIT = {"format": "toml", "body": 'algorithm = "sha384"\n[data]\n"vmtool.toml" = \'\'\'\nmodel = "m"\n\'\'\'\n'}


@given(st.data())
def test_init_data_are_some_or_are_refused(data: Any) -> None:
    values = changed(INIT, data)
    if isinstance(values.get("body"), str) and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(INIT["body"])))
        values["body"] = INIT["body"][:at] + data.draw(st.text(max_size=5)) + INIT["body"][at:]
    try:
        found = read_init_data(values)
    except Untrusted:
        return
    assert found is None or all(isinstance(each, str) for each in found.values.values())
