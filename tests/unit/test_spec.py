"""runtime.yaml: what is read, and that every mistake is told with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmtool import documents
from vmtool.errors import Refused
from vmtool.quantity import parse_size
from vmtool.rendering import shipped
from vmtool.serving.restarts import RestartPolicy
from vmtool.spec.load import START, read_spec
from vmtool.spec.runtime import Spec

GOOD = """\
apiVersion: vmtool/v1
kind: Runtime
metadata:
  name: a
spec:
  model: {name: m, path: model}
"""
VLLMD = """\
apiVersion: vllmd.com/v1alpha1
kind: Runtime
metadata:
  name: r1-qwen32b-int8
spec:
  model:
    name: r1-qwen32b-int8
    source: huggingface
    repository: vllmd/deepseek-r1-distill-qwen-32b-w8a8-dynamic
  resources:
    accelerator_memory: 48Gi
    accelerator_count: 1
    accelerator_type: nvidia-a40
  scaling:
    minReplicas: 1
    maxReplicas: 3
"""


def read(tmp_path: Path, text: str | bytes) -> Spec:
    path = tmp_path / "runtime.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_spec(path)


def test_what_is_left_out_has_safe_defaults(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)
    assert spec.name == "a"
    assert spec.spec.runtime.handler == "kata"
    assert not spec.spec.allow_unconfidential
    assert spec.spec.network.publish == ()


@pytest.mark.parametrize("word", ["no", '"no"'])
def test_a_policy_of_no_restart_needs_no_quotes(tmp_path: Path, word: str) -> None:
    """What YAML 1.1 makes of the word, false, can mean nothing else here."""
    restart = read(tmp_path, f"{GOOD}  restart: {{policy: {word}}}\n").spec.restart
    assert restart.asked == RestartPolicy("no")
    assert restart.words == ("--restart", "no", "--restart-backoff", "1", "--restart-limit", "10")


def test_a_dead_server_is_started_again_unless_the_spec_says_otherwise(tmp_path: Path) -> None:
    """The entrypoint does so by itself: an image of an older vmtool knows no such option."""
    assert read(tmp_path, GOOD).spec.restart.asked == RestartPolicy("always", 1.0, 10)
    assert read(tmp_path, GOOD).spec.restart.words == ()


@pytest.mark.parametrize("bad", ["policy: off", "policy: sometimes", "backoff: 1s", "backoff: -1", "limit: 0",
                                 "limit: 1.5", "backof: 1"])
def test_a_restart_that_is_none_is_refused_with_its_line(tmp_path: Path, bad: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  restart: {{{bad}}}\n")
    assert f"runtime.yaml:7: spec.restart.{bad.partition(':')[0]}: " in error.value.details[0]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).spec.model.path == tmp_path / "model"
    guest = f"{GOOD}  runtime: {{handler: libvirt, libvirt: {{image: i, firmware: ../f, device_tree: t}}}}\n"
    libvirt = read(tmp_path, guest).spec.runtime.libvirt
    assert (libvirt.image, libvirt.firmware, libvirt.kernel) == (tmp_path / "i", tmp_path / "../f", None)
    assert libvirt.device_tree == tmp_path / "t"


def test_the_shipped_quickstart_is_read() -> None:
    spec = read_spec(shipped("images") / "quickstart.yaml")
    assert spec.spec.allow_unconfidential
    assert [word for each in spec.spec.server_arguments for word in each.words] == [
        "--enforce-eager", "--dtype=bfloat16", "--kv-cache-memory-bytes=64M", "--max-model-len=256"]
    assert [str(port) for port in spec.spec.network.ports] == ["127.0.0.1:8000:8000"]


def test_the_vllmd_example_is_read_as_it_stands(tmp_path: Path) -> None:
    body = read(tmp_path, VLLMD).spec
    assert body.model.repository == "vllmd/deepseek-r1-distill-qwen-32b-w8a8-dynamic"
    assert (body.resources.accelerators.count, body.resources.accelerators.type) == (1, "nvidia-a40")
    assert body.resources.accelerators.memory == 48 << 30
    assert body.scaling is not None and body.scaling.max_replicas == 3
    assert not body.allow_unconfidential


@pytest.mark.parametrize(("text", "size"), [
    ("48Gi", 48 << 30), ("512Mi", 512 << 20), ("2G", 2 * 10**9), (1048576, 1 << 20), ("1 Ki", 1024),
])
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "message"), [
    ("8GB", "did you mean 8G?"), ("8gi", "did you mean 8Gi?"), ("-1Gi", "not a size"), ("much", "not a size"),
    (True, "not a size"), ("1.5Gi", "not a size"),
])
def test_wrong_sizes(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_size(text)


@pytest.mark.parametrize(("change", "message"), [
    (("name: a", "name: ../x"), ":4: metadata.name: use 1 to 63 lower-case letters"),
    (("name: a", "name: " + "a" * 64), ":4: metadata.name: use 1 to 63"),
    (("  model:", "  modle: 1\n  model:"), ":6: spec.modle: unknown key; did you mean 'model'?"),
    (("path: model", "path: model, sorce: local"), "spec.model.sorce: unknown key; did you mean 'source'?"),
    (("path: model", "source: huggingface"), "spec.model: source huggingface takes repository, and not path"),
    (("kind: Runtime", "kind: Pod"), ":2: kind: 'Pod' is not one of Runtime"),
    (("spec:", "spec:\n  runtime: {handler: runc, tee: tdx}"), "runc starts no virtual machine"),
    (("spec:", "spec:\n  runtime: {handler: docker}"), "'docker' is not one of runc, kata, libvirt"),
    (("spec:", "spec:\n  resources: {memory: 0}"), "spec.resources.memory: Input should be greater than 0"),
    (("spec:", "spec:\n  resources: {accelerators: {bdf: ['17:00.0']}}"), "spec.resources.accelerators.bdf.0"),
    (("spec:", "spec:\n  network: {publish: [0]}"), "0 is not a port"),
    (("spec:", "spec:\n  network: {name: ../x}"), "spec.network.name: String should match pattern"),
    (("spec:", "spec:\n  vllm: {env: {HF_TOKEN: x}}"), "spec.vllm.env.HF_TOKEN: a secret does not belong"),
    (("spec:", "spec:\n  hardening: {profile: none}"), "'none' is not one of default, strict, ipc-host, private-shm"),
])
def test_mistakes_are_told_with_their_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, GOOD.replace(*change))
    assert message in "\n".join(error.value.details)
    assert error.value.code == 2


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="3 problems"):
        read(tmp_path, GOOD.replace("kind: Runtime", "kind: X").replace("name: a", "name: A").replace("path", "pat"))


@pytest.mark.parametrize(("text", "message"), [
    (b"", "empty"),
    (b"   \n", "empty"),
    (b"\x00\xff\xfe\x80", "not text"),
    (b"a: [1", "not YAML"),
    (b"a: \x07", "not YAML"),
    (b"- 1\n", "not a mapping"),
    (b"a: &x\n  b: *x\n", "contains itself"),
    (b"a: 1\na: 2\n", "occurs twice"),
    (b"? [1]\n: 2\n", "a key must be a plain word"),
    (b"a: " + b"[" * 2000 + b"]" * 2000, "too deeply nested"),
    (b"a: !!python/object/apply:os.system [id]\n", "the tag !!python/object/apply:os.system is not understood"),
    (b"a: !!set {x}\n", "the tag !!set is not understood"),
    (b"# only a comment\n", "empty"),
    (b"#" * (documents.MAX_BYTES + 1), "larger than 1 MiB"),
    (b"a: &a [1,1,1,1,1,1,1,1]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (
        c, c, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1) for c in range(98, 106)), "too many"),
])
def test_files_that_are_no_spec(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(("word", "message"), [
    ("010", 'read as a number, 8: put it in quotes, "010"'), ("08", 'put it in quotes, "08"'),
    ("1:30", 'read as a number, 90: put it in quotes, "1:30"'), ("22:22", "read as a number, 1342"),
    ("1_000", 'read as a number, 1000: put it in quotes, "1_000"'), ("0x10", "read as a number, 16"),
    ("0o10", "read as a number by other readers"), ("0b11", "read as a number, 3"), ("+5", "read as a number, 5"),
    ("1e3", "read as a number by other readers"), (".5", "read as a number, 0.5"), ("1.5e+3", "read as a number"),
    (".inf", "read as a number"), (".nan", "read as a number"), ("2024-01-02", "read as a date"),
    ("2024-13-45", "read as a date"), ("2024-01-02T03:04:05Z", "read as a date"), ("9" * 5000, "read as a number"),
    ("yes", 'put it in quotes, "yes"'), ("Off", 'put it in quotes, "Off"'), ("<<", 'put it in quotes, "<<"'),
    ("TRUE", 'put it in quotes, "TRUE"'), ("Null", 'put it in quotes, "Null"'), ("!!bool maybe", "true or false"),
    ("true", 'true is true or false here, and the key takes text: put it in quotes, "true"'), ("null", "has no value"),
    ("~", "has no value"), ("", "has no value"), ("1.10", 'a number here, and the key takes text: put it in quotes'),
    ("[1]", "must be a text, not a list"), ("!!python/name:os.system x", "the tag !!python/name:os.system"),
    ('!!int "5"', "is read as a number"), ("!!binary aGk=", "the tag !!binary is not understood"),
])
@pytest.mark.parametrize(("place", "text"), [
    ("spec.vllm.env.TZ", "  vllm: {{env: {{LANG: b, TZ: {}}}}}"), ("spec.model.path", "  model: {{name: m, path: {}}}"),
    ("spec.runtime.kata.version", "  runtime: {{kata: {{version: {}}}}}"),
])
def test_a_text_is_never_made_of_something_else(tmp_path: Path, word: str, message: str, place: str, text: str) -> None:
    """docker/compose#103, kubernetes#79950: `010` became "8", true "True", 1:30 "90"."""
    if place == "spec.model.path" and word in ("null", "~", ""):
        return
    good = GOOD if place != "spec.model.path" else GOOD.replace("  model: {name: m, path: model}\n", "")
    with pytest.raises(Refused) as error:
        read(tmp_path, good + text.format(word) + "\n")
    line = next(line for line in error.value.details if f": {place}: " in line)
    assert message in line and len(error.value.details) == 1 and len(line) < 300
    # Of a path, null would do.
    assert "or write" not in line or (place, word) == ("spec.model.path", "Null")


@pytest.mark.parametrize(("text", "message"), [
    ("resources: {cpus: true}", "spec.resources.cpus: 'true' is not a number"),
    ('resources: {cpus: "2"}', 'spec.resources.cpus: "2" is a text, and the key takes a number: write it without'),
    ("resources: {accelerators: {count: 1.0}}", "spec.resources.accelerators.count: '1.0' is not a whole number"),
    ("allow_unconfidential: 1", "spec.allow_unconfidential: '1' is not true or false"),
    ('allow_unconfidential: "true"', "the key takes true or false: write it without quotes"),
    ("network: {publish: 8000}", "spec.network.publish: '8000' is not a list"),
    ("network: {publish: [22:22]}", 'spec.network.publish.0: 22:22 is read as a number, 1342: put it in quotes'),
    ("network: {publish: [080]}", "spec.network.publish.0: 080 is read as a number by other readers"),
    ("network: {publish: [true]}", "spec.network.publish.0: true is true or false here"),
    ("network: {publish: [80.0]}", "spec.network.publish.0: 80.0 is a number here"),
    ("network: [a]", "spec.network: must be a mapping, not a list"),
    ("network:", "spec.network: has no value; write a mapping or leave the key out"),
    ("resources: {memory: 2048}", "spec.resources.memory: 2048 has no unit, so it is bytes; did you mean 2048Mi?"),
    ('resources: {memory: "2048"}', "did you mean 2048Mi?"), ("resources: {memory: 4294967296}", "did you mean 4Gi?"),
    ("resources: {memory: 4.5}", "not a size"), ("resources: {memory: true}", "not a size"),
    ("resources: {memory: 1_000Mi}", "not a size"), ("resources: {memory: 8Mi}", "no server starts in less than 64Mi"),
    ("resources: {accelerators: {memory: 80}}", "spec.resources.accelerators.memory: 80 has no unit"),
])
def test_a_value_is_never_made_of_another_type(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  {text}\n")
    assert message in "\n".join(error.value.details) and len(error.value.details) == 1


def test_whole_numbers_may_stand_where_their_digits_are_taken(tmp_path: Path) -> None:
    text = f'{GOOD}  vllm: {{env: {{OMP_NUM_THREADS: 2, TZ: "010"}}}}\n  network: {{publish: [8000]}}\n'
    body = read(tmp_path, text).spec
    assert body.vllm.env == {"OMP_NUM_THREADS": "2", "TZ": "010"}
    assert [str(port) for port in body.network.ports] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize(("change", "hint"), [
    (("  model:", "  modle: 1\n  model:"), "vmtool spec explain spec"),
    (("path: model", "path: model, sorce: local"), "vmtool spec explain spec.model"),
    (("name: a", "name: A"), "vmtool spec explain metadata.name"),
    (("spec:", "spec:\n  network: {publish: [0]}"), "vmtool spec explain spec.network.publish"),
    (("spec:", "spec:\n  vllm: {env: {HF_TOKEN: x}}"), "vmtool spec explain spec.vllm.env"),
    (("spec:", "spec:\n  vllm: {args: --port 1}"), "vmtool spec explain spec.vllm.args"),
])
def test_a_mistake_is_followed_by_the_command_that_explains_its_key(tmp_path: Path, change: tuple[str, str], hint: str
                                                                    ) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, GOOD.replace(*change))
    assert error.value.hint == hint


def test_spelling_and_other_mistakes_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="3 problems") as error:
        read(tmp_path, GOOD.replace("name: a", "name: 010").replace("path", "pat") + "  allow_unconfidential: yes\n")
    assert [line.split(": ")[0].rpartition(":")[2] for line in error.value.details] == ["4", "6", "7"]


def test_keys_are_texts_and_merged_mappings_yield_to_a_mapping_s_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {x: 1, y: 2}\nother: &o {x: 5, z: 6}\nmade: {<<: [*b, *o], y: 3, on: 4, 010: 5}\n")
    assert documents.read(path).value["made"] == {"x": 1, "y": 3, "z": 6, "on": 4, "010": 5}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        read_spec(tmp_path / "none.yaml")


@pytest.mark.parametrize(("text", "message"), [
    ("resources: {cpus: 02}", "spec.resources.cpus: 02 is read as a number, 2: write 2"),
    ("resources: {cpus: 2:00}", "read as a number, 120: write 120"),
    ("resources: {cpus: .inf}", "is read as a number: write a number"),
    ("timeouts: {start: .inf}", "is read as a number: write a number"),
    ("timeouts: {drain: 2024-01-02}", "write a number"),
    ("resources: {accelerators: {count: 1e1}}", "by other readers of YAML, 10: write 10"),
    ("resources: {accelerators: {count: .5}}", "read as a number, 0.5: write a whole number"),
    ("resources: {memory: 1e9}", "by other readers of YAML, 1000000000; not a size"),
    ("timeouts: {start: 1_000}", "spec.timeouts.start: 1_000 is read as a number, 1000: write 1000"),
    ("allow_unconfidential: Yes", "read as true or false, true: write true"),
    ("allow_unconfidential: y", "by other readers of YAML, true: write true"),
    ("allow_unconfidential: 02", "spec.allow_unconfidential: 02 is read as a number, 2: write true or false"),
    ("vllm: {args: {max-model-len: 1e3}}", "'1e3' is not a whole number"),
])
def test_what_is_said_of_a_spelling_is_what_helps(tmp_path: Path, text: str, message: str) -> None:
    """Quotes would make a text of it, which such a key does not take: the next dead end."""
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  {text}\n")
    assert message in error.value.details[0] and "in quotes" not in error.value.details[0]


@pytest.mark.parametrize(("word", "message"), [
    ("y", 'by other readers of YAML, true: put it in quotes, "y"'), ("N", 'put it in quotes, "N"'),
    ("0O17", "by other readers of YAML, 15"), ("0X1F", "by other readers of YAML, 31"), ("1_0e3", "by other readers"),
    ("!foo 5", "the tag !foo is not understood"), ("!foo true", "the tag !foo is not understood"),
    ("!!float 5", "is read as a number"), ('"\\ud800"', "holds half of a character"), (
        '"a\\udfffb"', "holds half of a character"),
])
def test_more_of_what_readers_of_yaml_disagree_about(tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  vllm: {{env: {{TZ: {word}}}}}\n")
    [line] = error.value.details
    assert ":7: spec.vllm.env.TZ: " in line and message in line


@pytest.mark.parametrize("word", ["nay", "yy", "0b1e", "1.2.3", "x_1", "! 5", "!!str 5", "NaN"])
def test_what_every_reader_calls_a_text_is_one(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"{GOOD}  vllm: {{env: {{TZ: {word}}}}}\n").spec.vllm.env["TZ"] == word.rpartition(" ")[2]


def test_a_merged_value_is_wrong_at_its_own_line(tmp_path: Path) -> None:
    text = GOOD.replace("{name: m, path: model}", "\n    <<:\n      path: 5\n    name: m")
    with pytest.raises(Refused) as error:
        read(tmp_path, text)
    assert ':8: spec.model.path: 5 is a number here, and the key takes text: put it in quotes, "5"' in str(
        error.value.details)


@pytest.mark.parametrize("text", [
    b"a: &a {<<: *a}\n", b"a: {<<: 5}\n", b"a: {<<: [5]}\n", b"a: {<<: {x: 1}, <<: {y: 1}}\n", b'"\\ud800": 1\n',
    b"a: &b0 {x: 1}\n" + b"".join(b"k%d: &b%d {<<: [%s]}\n" % (i, i, b", ".join([b"*b%d" % (i - 1)] * 10))
                                   for i in range(1, 20)),
])
def test_merges_are_bounded_and_have_no_cycles(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    with pytest.raises(Refused):
        documents.read(path)


@pytest.mark.parametrize(("text", "line", "message", "hint"), [
    ("a:\n\tb: 1\n", 2, "a tab", "expand -t 2 {}"), ("a: {b:\t1}\n", 1, "a tab", "expand -t 2 {}"),
    ("a: 1\n---\na: 2\n", 2, "a second document", "csplit -z {} '/^---/' '{{*}}'"),
    ("a: 1\n---\n", 2, "a second document", "csplit -z {} '/^---/' '{{*}}'"),
    ("a: &x\n  b: *x\n", 1, "contains itself", START), ("a:\n  b: *x\n", 2, "undefined alias", START),
    ("a: 1\nb: 2\na: 3\n", 3, "occurs twice", START), ("a: 1\nb: 'c\nd: e\n", 2, "unexpected end", START),
    ("a: 1\nb: [c\n", 2, "expected ',' or ']'", START), ("a: b: c\n", 1, "mapping values", START),
    ("a:\n  b: 1\n c: 2\n", 3, "expected <block end>", START), ("a: @b\n", 1, "character '@'", START),
    ("a: 1\nb: \x00\n", 2, "#x0000", START), ("a: {{ b }}\n", 1, "a plain word", START),
    ("a\n".encode("utf-16-le").decode(), 1, "#x0000", "iconv -f UTF-16LE -t UTF-8 {}"),
    ("a\n".encode("utf-16-be").decode(), 1, "#x0000", "iconv -f UTF-16BE -t UTF-8 {}"),
])
def test_what_is_no_yaml_has_a_place_and_what_helps(tmp_path: Path, text: str, line: int, message: str,
                                                    hint: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, text)
    path = tmp_path / "runtime.yaml"
    assert error.value.message.startswith(f"{path}:{line}: ") and message in error.value.message
    assert error.value.hint == hint.format(path)


def test_an_escape_beyond_all_characters_is_no_fault_of_vmtools(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not YAML"):
        read(tmp_path, 'a: "\\UFFFFFFFF"\n')


def test_true_is_offered_only_where_the_key_takes_it(tmp_path: Path) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, GOOD.replace("name: a", "name: on") + "  vllm: {args: {enforce-eager: yes, dtype: y}}\n")
    assert [line.partition(": ")[2] for line in error.value.details] == [
        'metadata.name: on is read as true or false, true: put it in quotes, "on"',
        "spec.vllm.args.enforce-eager: yes is read as true or false, true: write true",
        "spec.vllm.args.dtype: y is read as true or false by other readers of YAML, true; 'y' is not one of auto, "
        "bfloat16, float, float16, float32, half"]


def test_another_encoding_is_named_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not text in UTF-8") as error:
        read(tmp_path, GOOD.encode("utf-16"))
    assert error.value.hint == f"iconv -f UTF-16 -t UTF-8 {tmp_path / 'runtime.yaml'}"


def test_a_place_is_shown_on_one_line_and_many_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f'{GOOD}  "a\\nb\\e[2J": 1\n  {"k" * 500}: 1\n')
    assert all(line.isprintable() and len(line) < 300 for line in error.value.details)
    with pytest.raises(Refused, match="300 problems") as error:
        read(tmp_path, GOOD + "".join(f"  k{number}: 1\n" for number in range(300)))
    assert len(error.value.details) == 41 and error.value.details[-1] == "and 260 more"


@pytest.mark.parametrize(("key", "text"), [
    ("model.path", "model: {{name: m, path: {}}}"), ("vllm.api_key_file", "vllm: {{api_key_file: {}}}"),
    ("vllm.files.chat-template", "vllm: {{files: {{chat-template: {}}}}}"),
    ("runtime.libvirt.image", "runtime: {{handler: libvirt, libvirt: {{image: {}}}}}"),
])
@pytest.mark.parametrize(("value", "message"), [
    ("''", "it is empty"), ('"/a\\0b"', "holds a zero byte"), ("~nobody-here/x", "this host has no such user"),
])
def test_a_path_names_something(tmp_path: Path, key: str, text: str, value: str, message: str) -> None:
    """An empty one would be the spec's own directory, mounted and served."""
    good = GOOD if key != "model.path" else GOOD.replace("  model: {name: m, path: model}\n", "")
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{good}  {text.format(value)}\n")
    assert any(f"spec.{key}: " in line and message in line for line in error.value.details)


@pytest.mark.parametrize(("text", "place"), [
    ("canary: {prompt: a, expect: ' '}", "spec.canary.expect"), ('canary: {prompt: "\\n", expect: b}', "prompt"),
    ("timeouts: {start: 1000000000000}", "spec.timeouts.start"), ("timeouts: {boot: 31536001}", "spec.timeouts.boot"),
    ("resources: {memory: ８Gi}", "not a size"), ("resources: {memory: '٨Gi'}", "not a size"),
])
def test_values_that_would_mean_nothing_or_overflow(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  {text}\n")
    assert place in error.value.details[0]


@pytest.mark.parametrize(("text", "message"), [
    ("network: {publish: [8000/udp]}", "speaks HTTP, which is TCP"),
    ('network: {publish: ["80"]}', "did you mean 80:8000?"),
    ('network: {publish: ["0.0.0.0:443:443"]}', "did you mean 443:8000?"),
    ("resources: {cpus: 0.001}", "spec.resources.cpus"),
])
def test_what_would_only_fail_at_the_start(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refused) as error:
        read(tmp_path, f"{GOOD}  {text}\n")
    assert message in error.value.details[0]
    assert read(tmp_path, f'{GOOD}  network: {{publish: ["80:8000"]}}\n').spec.network.ports[0].host_port == 80
