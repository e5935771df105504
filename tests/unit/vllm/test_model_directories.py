"""Model directories: what vLLM serves is accepted; what it cannot is refused with the reason,
    before anything starts."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.machine import FilePiece, Output
from vmtool.models.facts import ModelFacts, read_model, unreadable_file
from vmtool.stage.model import check_model

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4976698672\n"
CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})


def tensors(count: int = 100) -> bytes:
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": {"dtype": "U8", "shape": [count],
                                                                "data_offsets": [0, count]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(count)


class Disk(Recorded):
    """A reader of this directory, as find prints it."""

    def __init__(self, path: Path) -> None:
        super().__init__({"texts": {}})
        self.path = path

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        if not self.path.exists():
            return Output(0, "", "")
        two = [each for each in sorted(self.path.rglob("*")) if len(each.relative_to(self.path).parts) <= 2]
        if "-type" in argv:
            links = [f"{self._name(each)}\0{each.readlink()}\0" for each in two if each.is_symlink()]
            return Output(0, "".join(links), "")
        rows = ["d 755 4096 \0" if self.path.is_dir() else f"f 644 {self.path.stat().st_size} \0"]
        for each in two:
            kind = "d" if each.is_dir() else "f" if each.exists() else "l"
            size = each.stat().st_size if each.exists() else 9
            rows.append(f"{kind} {755 if kind == 'd' else 644} {size} {self._name(each)}\0")
        return Output(0, "".join(rows), "")

    def link(self, path: str) -> str | None:
        return str(Path(path).readlink()) if Path(path).is_symlink() else None

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.path)).removeprefix(".")

    def text(self, path: str) -> str | None:
        inside = path.startswith(f"{self.path}/") and Path(path).is_file()
        return Path(path).read_text(errors="replace") if inside else None

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        data = Path(path).read_bytes() if Path(path).is_file() else None
        return None if data is None else FilePiece(len(data), data[start:start + size])


def look(path: Path) -> ModelFacts:
    return read_model(Disk(path), str(path))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.mkdir()
    (path / "config.json").write_text(CONFIG)
    (path / "tokenizer.json").write_text("{}")
    (path / "model.safetensors").write_bytes(tensors())
    return path


def ids(path: Path, engine: str = "vllm") -> list[str]:
    return [finding.id for finding in check_model(look(path), engine)]


def with_header(tensors: object, size: int) -> bytes:
    """A safetensors file that says so, and has so many bytes of tensors."""
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def one(start: int, end: int, shape: int = 4) -> dict[str, object]:
    return {"dtype": "U8", "shape": [shape], "data_offsets": [start, end]}


def sharded(path: Path, index: str = "model.safetensors.index.json") -> None:
    (path / "model.safetensors").unlink()
    names = {f"l{number}": f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)}
    (path / index).write_text(json.dumps({"weight_map": names}))
    for name in names.values():
        (path / name).write_bytes(tensors())


def mistral(path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (path / name).unlink()
    (path / "params.json").write_text('{"dim": 64, "n_layers": 2}')
    (path / "tekken.json").write_text("{}")
    (path / "consolidated.safetensors").write_bytes(tensors())


def bin_shards(path: Path) -> None:
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(b"PK\x03\x04data" + bytes(5000) + b"PK\x05\x06" + bytes(18))


def another_index(path: Path) -> None:
    """A repository's index of its .bin files, of which a copy took the safetensors only."""
    (path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')


def without_tensors(path: Path) -> None:
    (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def linked(path: Path) -> None:
    """The directory is known by another name, as /models/current is, and has links of its own."""
    (path / "real.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to("real.safetensors")
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def large_index(path: Path) -> None:
    """That of a model of 163 shards has 9 MB, more than vmtool reads of a text."""
    sharded(path)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    index["weight_map"] |= {f"model.layers.{number}.mlp.experts.weight": "model-00001-of-00003.safetensors"
                            for number in range(60_000)}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def large_index_of_more(path: Path) -> None:
    large_index(path)
    (path / "model-00002-of-00003.safetensors").unlink()


def beside_an_index(path: Path) -> None:
    """vLLM loads nothing that the index does not name."""
    sharded(path)
    (path / "model.safetensors").write_bytes(b"old")


def index_of_others(path: Path) -> None:
    """The index wins, also over weights that are whole."""
    whole = (path / "model.safetensors").read_bytes()
    without(path, "model-*.safetensors")
    (path / "model.safetensors").write_bytes(whole)


@pytest.mark.parametrize("change", [
    lambda path: None, without_tensors, linked, large_index,
    sharded, mistral, bin_shards, another_index,
    lambda path: (path / "adapter_config.json").write_text("{}"),
    lambda path: (path / "x.gguf").write_bytes(b"GGUF"),
    lambda path: (path / "pytorch_model.bin").write_bytes(b"old"),
    beside_an_index,
    lambda path: (path / "tokenizer.json").rename(path / "tokenizer.model"),
    lambda path: (path / "tokenizer.json").rename(path / "vocab.txt"),
    lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(4, 8), "b": one(0, 4)}, 8)),
    lambda path: (path / "model.safetensors").write_bytes(with_header({"__metadata__": None, "a": {
        "dtype": "F4", "shape": [8], "data_offsets": [0, 4], "more": 1}}, 4)),
    lambda path: (path / "._model.safetensors").write_bytes(b"what macOS leaves, and no glob of vLLM's finds"),
    lambda path: [(path / name).touch() for name in ("vocab.json", "merges.txt", "added_tokens.json", "vocab.txt")],
    lambda path: (path / "preprocessor_config.json").touch(),
    lambda path: (path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}'),
    lambda path: (path / "tokenizer.json").write_text('{"a": "' + "x" * (1 << 20) + '"}\n'),
    lambda path: (path / "config.json").write_text('{"architectures": [], "model_type": "llama"}'),
])
def test_what_vllm_serves_is_accepted(whole: Path, change: Callable[[Path], object]) -> None:
    change(whole)
    assert ids(whole) == []


def cut(path: Path) -> None:
    (path / "model.safetensors").write_bytes(tensors()[:-1])


def without(path: Path, shards: str) -> None:
    sharded(path)
    for each in path.glob(shards):
        each.unlink()


def gguf(path: Path) -> None:
    for each in path.iterdir():
        each.unlink()
    (path / "smol.Q8_0.gguf").write_bytes(b"GGUF\x03")


def gguf_with_config(path: Path) -> None:
    (path / "model.safetensors").rename(path / "m.gguf")


def adapter(path: Path) -> None:
    (path / "config.json").rename(path / "adapter_config.json")
    (path / "model.safetensors").rename(path / "adapter_model.safetensors")


def nested(path: Path) -> None:
    shutil.copytree(path, path.with_name("inner"))
    for each in path.iterdir():
        each.unlink()
    path.with_name("inner").rename(path / "llama")


def hub_cache(path: Path) -> None:
    for each in path.iterdir():
        each.unlink()
    (path / "refs").mkdir()
    (path / "refs" / "main").write_text("abc")


@pytest.mark.parametrize(("change", "id", "message"), [
    (lambda path: (path / "model.safetensors").write_bytes(LFS), "model.pointers", "model.safetensors in"),
    (lambda path: (path / "tokenizer.json").write_bytes(LFS), "model.pointers", "Git LFS pointers"),
    (lambda path: without(path, "model-00002-*"), "model.shards",
     "model-00002-of-00003.safetensors: named by the index"),
    (lambda path: without(path, "model-*.safetensors"), "model.shards",
     "model-00001-of-00003.safetensors, model-00002-of-00003.safetensors, model-00003-of-00003.safetensors"),
    (cut, "model.broken", "model.safetensors is cut off: it has"),
    (lambda path: (path / "model.safetensors").write_bytes(tensors()[:40]), "model.broken", "is cut off"),
    (lambda path: (path / "model.safetensors").write_bytes(b""), "model.broken", "model.safetensors is empty"),
    (lambda path: (path / "model.safetensors").write_bytes(b"<!DOCTYPE html><html>"), "model.broken",
     "is not a safetensors file"),
    (lambda path: (path / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b"not JSON!"), "model.broken",
     "has a header that is not"),
    (gguf, "model.gguf", "holds GGUF, which vLLM 0.32.0 does not read"),
    (gguf_with_config, "model.gguf", "has its weights as GGUF"), (adapter, "model.adapter", "holds an adapter (LoRA)"),
    (nested, "model.nested", "holds a model in llama"), (hub_cache, "model.cache", "a cache of the hub"),
    (lambda path: (path / "config.json").unlink(), "model.config", "config.json is missing"),
    (lambda path: (path / "config.json").write_text("{"), "model.config", "config.json is no JSON"),
    (lambda path: (path / "tokenizer.json").unlink(), "model.tokenizer", "holds no tokenizer"),
    (lambda path: (path / "model.safetensors").unlink(), "model.weights", "holds no weights"),
    (lambda path: (path / "model.safetensors").rename(path / "training_args.bin"), "model.weights", "holds no weights"),
    (large_index_of_more, "model.shards", "00002"),
    (lambda path: (path / "model.safetensors").rename(path / "model-00002-of-00003.safetensors"), "model.shards",
     "model-00001-of-00003.safetensors, model-00003-of-00003.safetensors"),
    (lambda path: (path / "model.safetensors").rename(path / "pytorch_model-00001-of-00002.bin"), "model.shards",
     "pytorch_model-00002-of-00002.bin"),
    (index_of_others, "model.shards", "00001"),
    (lambda path: (path / "model.safetensors.index.json").write_text("{"), "model.broken", "names no weights"),
    (lambda path: (path / "model.safetensors.index.json").write_text('{"weight_map": {}}'), "model.broken", "names no"),
    (lambda path: (path / "model.safetensors").write_bytes(tensors() + b"x"), "model.broken", "1 bytes more than"),
    (lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(4, 8)}, 8)), "model.broken", "a gap"),
    (lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(0, 4), "b": one(0, 4)}, 4)),
     "model.broken", "a place used twice"),
    (lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(0, 4, 9)}, 4)), "model.broken",
     "another size for its tensor 'a' than its shape"),
    (lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(-4, 4)}, 4)), "model.broken",
     "has a header that"),
    (lambda path: (path / "model.safetensors").write_bytes(with_header(["a"], 4)), "model.broken", "has a header that"),
    *((lambda path, bad=bad: (path / "model.safetensors").write_bytes(with_header(bad, 4)), "model.broken",
       "has a header that") for bad in (
        {"a": one(0, 4) | {"data_offsets": [0, 4.0]}}, {"a": one(0, 4) | {"data_offsets": ["0", "4"]}},
        {"a": one(0, 4) | {"data_offsets": [False, 4]}}, {"a": one(0, 4) | {"data_offsets": [0, 4, 9]}},
        {"a": one(0, 4) | {"shape": "4"}}, {"a": one(0, 4) | {"shape": [4.0]}}, {"a": one(0, 4) | {"shape": [-2, -2]}},
        {"a": one(0, 4), "__metadata__": {"format": 5}}, {"a": one(0, 4), "__metadata__": []}, {"\ud83d": one(0, 4)})),
    *((lambda path, kind=kind: (path / "model.safetensors").write_bytes(with_header(
        {"a": one(0, 4) | {"dtype": kind}}, 4)), "model.broken", "of a type that no safetensors file has")
      for kind in ("U9", "u8", "5")),
    (lambda path: (path / "model.safetensors").write_bytes(struct.pack("<Q", 5) + b"\xef\xbb\xbf{}"), "model.broken",
     "has a header that"),
    # A product of many numbers takes hours.
    (lambda path: (path / "model.safetensors").write_bytes(with_header({"a": one(0, 4) | {"shape": [2] * 300_000}}, 4)),
     "model.broken", "another size for its tensor 'a'"),
    *((lambda path, name=name, text=text: (path / name).write_text(text), "model.broken", f"{name} is no JSON")
      for name, text in (("generation_config.json", "["), ("generation_config.json", "[]"),
                         ("tokenizer_config.json", ""), ("special_tokens_map.json", "<html>"),
                         ("tokenizer.json", '{"version": "1.0", "model": {'),
                         ("tokenizer.json", "{" + "x" * (1 << 20)), ("chat_template.json", "["),
                         ("tekken.json", ""))),
    *((lambda path, name=name: ((path / "tokenizer.json").unlink(), (path / "tokenizer_config.json").write_text("{}"),
                                (path / "tokenizer.model").write_text("x"), (path / name).touch()),
       "model.broken", f"{name} is ") for name in ("merges.txt", "vocab.json", "added_tokens.json")),
    (lambda path: ((path / "model.safetensors").unlink(), (path / "pytorch_model.bin").write_bytes(
        b"PK\x03\x04" + bytes(5000))), "model.broken", "pytorch_model.bin is cut off"),
    (lambda path: (path / "config.json").write_text('{"architectures": "LlamaForCausalLM", "model_type": "llama"}'),
     "model.config", "is no JSON that names an architecture"),
    (lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"), "model.broken", "of PyTorch"),
    (lambda path: ((path / "model.safetensors").unlink(), (path / "pytorch_model.bin").touch()), "model.broken",
     "pytorch_model.bin is empty"),
    (lambda path: (path / "tokenizer.json").write_text("<html>"), "model.broken", "tokenizer.json is no JSON"),
    (lambda path: (path / "tokenizer.json").write_text(""), "model.broken", "tokenizer.json is no JSON"),
    (lambda path: (path / "tokenizer.json").rename(path / "tokenizer_config.json"), "model.tokenizer", "no tokenizer"),
    (lambda path: ((path / "original").mkdir(), (path / "tokenizer.json").rename(path / "original/tokenizer.json")),
     "model.tokenizer", "holds no tokenizer"),
    (lambda path: ((path / "config.json").rename(path / "model_index.json"), (path / "unet").mkdir(), (
        path / "unet/config.json").write_text(CONFIG)), "model.pipeline", "a pipeline of diffusers"),
    (lambda path: (path / "config.json").write_text('{"architectures": [{"a": 1}]}'), "model.config", "is no JSON"),
    (lambda path: (path / "x.json").symlink_to("/etc/passwd"), "model.links", "link out of it"),
    (lambda path: ((path / "s").mkdir(), (path / "s/up").symlink_to(".."), (path / "z.json").symlink_to(
        "s/up/../elsewhere")), "model.links", "z.json in"),
    (lambda path: (path / "w.safetensors").symlink_to(".git/annex/objects/x"), "model.links", "links to what is not"),
    (lambda path: (path / "a\nb.safetensors").write_bytes(b"junk"), "model.broken", "'a\\nb.safetensors is not"),
    (lambda path: ([(path / f"f{number}").touch() for number in range(2100)], (path / "zz.safetensors").write_bytes(
        b"junk")), "model.broken", "zz.safetensors is not"),
])
def test_what_it_cannot_is_refused_with_the_reason_and_what_to_do(
        whole: Path, change: Callable[[Path], object], id: str, message: str) -> None:
    """vllm#8168, vllm#7978, huggingface_hub#3645."""
    change(whole)
    found = [finding for finding in check_model(look(whole)) if finding.id == id]
    assert found and message in found[0].detail, ids(whole)
    assert found[0].hint and found[0].fault == "input"


def test_mistral_s_format_is_vllm_s_only(whole: Path) -> None:
    mistral(whole)
    [finding] = check_model(look(whole), "transformers")
    assert finding.hint == "write engine: vllm"


def test_what_a_recorded_host_keeps_of_a_header_breaks_nothing(whole: Path) -> None:
    class Cut(Disk):
        def piece(self, path: str, start: int, size: int) -> FilePiece | None:
            found = super().piece(path, start, size)
            return found and FilePiece(found.size, found.data[:16])

    assert read_model(Cut(whole), str(whole)).broken == ()


@pytest.mark.parametrize(("out", "why"), [("f 644", ""), ("d 755", ""), ("", "is not there"), ("N 777", "is not there"),
                                          ("f 600", "cannot be read"), ("p 644", "is neither a file"),
                                          ("d 700", "cannot")])
def test_files_of_a_spec(out: str, why: str) -> None:
    reader = Recorded({"outputs": {"find -L /x -maxdepth 0 -printf '%y %m'": {"status": 0, "out": out, "err": ""}}})
    found = unreadable_file(reader, "/x")
    assert found.startswith(why) if why else found == ""


def test_a_file_is_no_directory(whole: Path) -> None:
    [finding] = check_model(look(whole / "config.json"))
    assert (finding.id, finding.hint) == ("model.empty", f"write path: {whole}")


@pytest.mark.parametrize("canary", ['{"prompt": "", "expect": ""}', '{"prompt": "a", "expect": " "}', '{"prompt": 5}',
                                    json.dumps({"prompt": "x" * 10_001, "expect": "a"}), "[" * 9999])
def test_a_canary_that_would_prove_nothing_is_none(whole: Path, canary: str) -> None:
    (whole / "canary.json").write_text(canary)
    assert look(whole).canary is None
