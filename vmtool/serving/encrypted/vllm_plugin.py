"""vLLM's plugin: it loads the encrypted model, and nothing else. vLLM calls it in each of its processes.

A plugin that cannot be imported is only logged by vLLM; the server then ends, since it knows no load format of this
name.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.encrypted.process import leave_no_core
from vmtool.serving.encrypted.vllm_arguments import LOAD_FORMAT


def register() -> None:
    """Register the load format in the place of all others, and refuse what would write weights in clear."""
    leave_no_core()
    from vllm.model_executor import model_loader
    from vllm.model_executor.model_loader.sharded_state_loader import ShardedStateLoader
    from vllm.model_executor.model_loader.tensorizer_loader import TensorizerLoader

    from vmtool.serving.encrypted.vllm_loader import CryptotensorsLoader

    # Draft models, reloads and whatever else asks for a loader get this one, or none.
    model_loader._LOAD_FORMAT_TO_MODEL_LOADER.clear()
    model_loader._LOAD_FORMAT_TO_MODEL_LOADER[LOAD_FORMAT] = CryptotensorsLoader
    for saves in (ShardedStateLoader, TensorizerLoader):
        saves.save_model = staticmethod(refuse_to_save)


def refuse_to_save(*words: Any, **options: Any) -> NoReturn:
    """In the place of save_sharded_state's and save_tensorized_model's work."""
    raise Untrusted("an encrypted model is not written down in clear")
