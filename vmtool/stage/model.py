"""The model that is served."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from vmtool.findings import Finding, wrong_input
from vmtool.models.facts import ModelFacts
from vmtool.models.weights import is_weights
from vmtool.serving.vllm_options import table
from vmtool.stage.launch import Launch, Stage

PLACE = "spec.model.path"
# What a tokenizer is made of; its settings alone, tokenizer_config.json, are none.
TOKENIZERS = ("tokenizer.", "tokenization_", "vocab.", "tekken.json", "spiece.model", "sentencepiece", "merges.txt")
BY_ITSELF = {"skip-tokenizer-init", "tokenizer", "tokenizer-mode"}


class ModelStage(Stage):
    """A local model's directory must hold one that the engine can serve, and files of the spec must be there."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        given = {argument.option.name for argument in launch.body.server_arguments}
        if launch.model:
            yield from check_model(launch.model, launch.body.model.engine, tokenizer=not given & BY_ITSELF)
        for name, why in launch.files.items():
            yield wrong_input("model.files", why, place=f"spec.vllm.{name}")


def check_model(model: ModelFacts, engine: str = "vllm", *, tokenizer: bool = True) -> Iterator[Finding]:
    """What is wrong with the model's directory.

    Args:
        tokenizer: whether the model must bring one.
    """
    if not model.files:
        yield wrong_input("model.empty", f"{model.path} is no directory with files in it", place=PLACE)
        return
    mistral = model.mistral and engine == "vllm"
    if not model.architecture and not mistral:
        yield _no_config(model)
    elif not any(is_weights(name) for name in model.files) and not model.missing:
        yield _no_weights(model)
    elif tokenizer and not any(name.startswith(TOKENIZERS) or name.endswith(".tiktoken") for name in model.files):
        yield wrong_input("model.tokenizer", f"{model.path} holds no tokenizer (tokenizer.json or the like)",
                          "copy it from where the model comes from", PLACE)
    yield from _incomplete(model)
    if model.nowhere:
        yield wrong_input("model.links", f"{_some(model.nowhere)} in {model.path}: links to what is not there",
                          "download the model whole", PLACE)
    if model.outside:
        yield wrong_input("model.links", f"{_some(model.outside)} in {model.path} link out of it, where the container "
                          "sees nothing", f"copy it with its links resolved: cp -rL {_shell(model)} COPY",
                          PLACE)
    if model.special:
        yield wrong_input("model.special", f"{_some(model.special)} in {model.path}: neither a file nor a directory",
                          f"look who put it there: ls -l {_shell(model)}", PLACE)
    if model.mounts:
        yield wrong_input("model.mounts", f"{_some(model.mounts)} is mounted below {model.path}; the container "
                          "is given one file system, read-only", "mount it elsewhere, and copy or bind what it has: "
                          "each model has a directory on one file system", PLACE)
    if model.unreadable:
        yield wrong_input("model.unreadable", f"the container's user cannot read {_some(model.unreadable)} in "
                          f"{model.path}", f"chmod -R o+rX {_shell(model)}", PLACE)


def _incomplete(model: ModelFacts) -> Iterator[Finding]:
    if model.pointers:
        yield wrong_input("model.pointers", f"{_some(model.pointers)} in {model.path}: Git LFS pointers, not the files "
                          "themselves", f"git -C {_shell(model)} lfs pull", PLACE)
    if model.missing:
        yield wrong_input("model.shards", f"{_some(model.missing)}: named by the index in {model.path} or by other "
                          "shards, and not there", "download the rest", PLACE)
    if model.broken:
        yield wrong_input("model.broken", f"{model.path}: {_some(model.broken, '; ')}", "download it again", PLACE)


def _no_config(model: ModelFacts) -> Finding:
    """Why there is no architecture: another kind of directory than a model's, or a file that cannot be read."""
    if "" in model.files:
        return wrong_input("model.empty", f"{model.path} is a file", f"write path: {PurePosixPath(model.path).parent}",
                           PLACE)
    if "model_index.json" in model.files:
        return wrong_input("model.pipeline", f"{model.path} holds a pipeline of diffusers, which makes images",
                           "give the directory of a language model", PLACE)
    inner = sorted(PurePosixPath(name).parent.name for name in model.files if name.endswith("/config.json"))
    if "adapter_config.json" in model.files:
        return wrong_input("model.adapter", f"{model.path} holds an adapter (LoRA), not a model",
                           "give the directory of its base model", PLACE)
    if any(name.endswith(".gguf") for name in model.files):
        return wrong_input("model.gguf", f"{model.path} holds GGUF, which vLLM {table().version} does not read",
                           "take the model's safetensors, or make them of it with transformers", PLACE)
    if inner:
        return wrong_input("model.nested", f"{model.path} holds a model in {inner[0]}, one level further down",
                           f"write path: {model.path}/{inner[0]}", PLACE)
    if any(name.startswith(("refs/", "snapshots/")) for name in model.files):
        return wrong_input("model.cache", f"{model.path} is a cache of the hub, with models below snapshots/",
                           f"cp -rL {_shell(model)}/snapshots/*/. COPY, and write path: COPY", PLACE)
    if model.mistral:
        return wrong_input("model.config", f"{model.path} is in Mistral's format, which only vLLM reads",
                           "write engine: vllm", PLACE)
    what = "is no JSON that names an architecture" if "config.json" in model.files else "is missing"
    return wrong_input("model.config", f"{model.path}/config.json {what}", "download the model whole", PLACE)


def _no_weights(model: ModelFacts) -> Finding:
    if any(name.endswith(".gguf") for name in model.files):
        return wrong_input("model.gguf", f"{model.path} has its weights as GGUF, which vLLM {table().version} does not "
                           "read", "take the model's safetensors, or make them of it with transformers", PLACE)
    return wrong_input("model.weights", f"{model.path} holds no weights (*.safetensors)",
        "download the model whole", PLACE)


def _some(names: tuple[str, ...], between: str = ", ") -> str:
    """Names, which are anybody's: each on one line."""
    shown = [name if name.isprintable() else repr(name) for name in names[:3]]
    return between.join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shell(model: ModelFacts) -> str:
    return shlex.quote(model.path)
