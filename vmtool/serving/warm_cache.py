"""Run once while the image is built: asks vLLM about common architectures, so that no start has to.

vLLM inspects a model's class in a process of its own, which imports torch and vLLM again: seconds per start. It
keeps the answers under VLLM_CACHE_ROOT, which is a fresh tmpfs in a hardened container; `entrypoint` puts them there.

    VLLM_CACHE_ROOT=DIR python3 -m vmtool.serving.warm_cache
"""

from __future__ import annotations

import sys

COMMON = ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
          "Qwen3MoeForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "GptOssForCausalLM",
          "OPTForCausalLM", "GPT2LMHeadModel")


def main() -> int:
    """Fill the cache; an architecture that this vLLM does not know is left out."""
    from vllm.model_executor.models import registry

    # One process is enough here: there is no CUDA context to be protected from an early start.
    registry._run_in_subprocess = lambda function: function()
    for name in COMMON:
        known = registry.ModelRegistry.models.get(name)
        if known is None:
            print(f"prepare: {name}: unknown to this vLLM")
            continue
        known.inspect_model_cls()
    return 0


if __name__ == "__main__":
    sys.exit(main())
