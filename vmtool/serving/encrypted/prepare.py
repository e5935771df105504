"""What the entrypoint does about an encrypted model before it starts the engine: key, manifest, signature, agent."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving.arguments import Arguments
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import wipe
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer, read_key
from vmtool.serving.encrypted.agent import KeyAgent
from vmtool.serving.encrypted.open_model import open_model
from vmtool.serving.encrypted.process import AGENT
from vmtool.serving.encrypted.sources import HANDED, HandedOver, KeySource
from vmtool.serving.encrypted.vllm_arguments import environment_problems, worker_count
from vmtool.serving.events import event_text

# Where vLLM finds the plugin, and what it is called there; vLLM loads plugins only by name (VLLM_PLUGINS).
PLUGINS = Path(__file__).parents[1] / "plugins"
PLUGIN = "vmtool_cryptotensors"


@dataclass(frozen=True)
class EncryptedModel:
    """A model that was opened.

    Args:
        view: what the engine takes for the model's directory; it has the files in clear alone.
        environment: the engine's, whole.
    """

    view: Path
    environment: Mapping[str, str]
    agent: KeyAgent


async def prepare(arguments: Arguments, directory: Path, say: Callable[[str], None],
                  source: KeySource | None = None) -> EncryptedModel | None:
    """The model, if it is its owner's and its key opens it; else None, and the log says why.

    Args:
        directory: this user's alone, in memory; the files in clear and the agent's socket come below it.
        source: where the master key comes from; the file that was handed over, unless it is another.
    """
    began, chosen = time.monotonic(), source or HandedOver(arguments.key_file.parent / HANDED)
    try:
        if problem := next(environment_problems(os.environ), ""):
            raise Untrusted(problem)
        signer = signer_of(arguments)
        master = read_key(await chosen.read())
        if not isinstance(master, MasterKey):
            raise Untrusted("what came as the model's key is a signing key")
        view = directory / "model"
        view.mkdir(mode=0o700)
        bundle = open_model(arguments.model, view, signer, master, arguments.manifest)
    except Untrusted as error:
        say(event_text(time.time(), "model-refused", why=str(error)[:500], seconds=round(time.monotonic() - began, 3)))
        say(f"the encrypted model is refused: {error}")
        return None
    tensors = sum(each.tensors for each in bundle.files)
    say(event_text(time.time(), "model-opened", signer=signer.kid, key=arguments.signer[0] if arguments.signer else "",
                   manifest=arguments.manifest, files=len(bundle.files), tensors=tensors, algorithm=master.algorithm,
                   seconds=round(time.monotonic() - began, 3)))
    packed = bundle.pack()
    wipe(bundle.keys)
    agent = KeyAgent(directory / "model-keys.sock", packed, worker_count(arguments.vllm), say,
                     again=arguments.restart.policy != "no", itself=arguments.engine == "transformers")
    return EncryptedModel(view, environment(os.environ, agent.path), agent)


def signer_of(arguments: Arguments) -> Signer:
    """The owner whose signature counts."""
    key, name = arguments.signer or ("", "")
    return Signer(name, base64.b64decode(key))


def environment(own: Mapping[str, str], socket: Path) -> dict[str, str]:
    """The engine's environment: our plugin and no other, and where its workers find the agent."""
    path = ":".join(filter(None, (own.get("PYTHONPATH", ""), str(PLUGINS))))
    return {**own, AGENT: str(socket), "VLLM_PLUGINS": PLUGIN, "PYTHONPATH": path}
