"""vLLM's loader for an encrypted model. It runs in each worker of the engine, and only there."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.encrypted.receive import receive_bundle
from vmtool.serving.encrypted.tensors import load_tensors


class CryptotensorsLoader(DefaultModelLoader):  # type: ignore[misc]
    """As vLLM's own, with another source of weights: none of its ways to find files in clear is left."""

    def download_model(self, model_config: Any) -> None:
        """The model is there, or it is not served."""

    def get_all_weights(self, model_config: Any, model: Any) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Every tensor of the model; while vLLM copies one, the next are decrypted.

        Raises:
            Untrusted: another model is asked for beside the encrypted one, or a byte is not what was signed.
        """
        if tuple(getattr(model, "secondary_weights", ())):
            raise Untrusted("this model takes weights from elsewhere too, which nobody encrypted")
        bundle = receive_bundle()
        if Path(model_config.model) != bundle.view:
            raise Untrusted("a second model, such as a draft model, would be loaded in clear")
        patterns = getattr(model, "allow_patterns_overrides", None) or ["*"]
        self.counter_before_loading_weights: float = time.perf_counter()
        yield from load_tensors(bundle, lambda name: any(fnmatch.fnmatch(name, each) for each in patterns))

    def _prepare_weights(self, *words: Any, **options: Any) -> Any:
        raise Untrusted("weights in clear are not read")
