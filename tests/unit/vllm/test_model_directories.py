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
        if "-type" in argv or not self.path.exists():
            return Output(0, "", "")
        rows = [f"d 755 4096 {self._name(self.path)}\0"] if "%P" in argv[-1] else []
        for each in sorted(self.path.rglob("*")):
            if len(each.relative_to(self.path).parts) <= 2:
                kind = "d" if each.is_dir() else "f"
                rows.append(f"{kind} {755 if kind == 'd' else 644} {each.stat().st_size} {self._name(each)}\0")
        return Output(0, "".join(rows), "")

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
    (path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")


def another_index(path: Path) -> None:
    """A repository's index of its .bin files, of which a copy took the safetensors only."""
    (path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')


def without_tensors(path: Path) -> None:
    (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize("change", [lambda path: None, without_tensors,
                                    sharded, mistral, bin_shards, another_index,
                                    lambda path: (path / "adapter_config.json").write_text("{}"),
                                    lambda path: (path / "x.gguf").write_bytes(b"GGUF"),
                                    lambda path: (path / "tokenizer.json").rename(path / "tokenizer.model")])
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
