"""How the model is encrypted, and where its key comes from: `spec.model.encryption`."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.schema import HostPath, Strict
from vmtool.serving.encrypted.vllm_arguments import LOAD_FORMAT, argument_problems, variable_problem
from vmtool.serving.vllm_arguments import Argument, Mistake
from vmtool.serving.vllm_options import table
from vmtool.spec.vllm import Vllm


class ModelKey(Strict):
    """Where the master key of an encrypted model comes from.

    Args:
        file: a file of mode 0600, or a named pipe, with the key as `vmtool key generate` writes it; it is handed to
            the workload once that was verified; e.g. `./master.jwk`
    """

    file: HostPath


class Encryption(Strict):
    """The model is encrypted (`vmtool model encrypt`); only what its owner signed is served.

    Args:
        signer: the public part of the owner's signing key (`vmtool key export-public`); e.g. `./signer.pub.jwk`
        key: where the master key comes from.
    """

    signer: HostPath
    key: ModelKey


def load_format() -> Argument:
    """What vLLM is started with for an encrypted model."""
    return Argument(table().options["load-format"], LOAD_FORMAT, ("model", "encryption"))


def encryption_problems(vllm: Vllm, *, remote_code: bool) -> Iterator[Mistake]:
    """What of the spec does not go with an encrypted model, with its place below `spec`."""
    if remote_code:
        yield Mistake(("model", "trust_remote_code"), "code of the model's own could write it down in clear")
    for mistake in argument_problems(vllm.arguments):
        yield Mistake(("vllm", "args", *mistake.place), mistake.text)
    for mistake in argument_problems([each for each in vllm.started_with if each.place[:1] == ("files",)]):
        yield Mistake(("vllm", *mistake.place), mistake.text)
    for name, value in vllm.env.items():
        if problem := variable_problem(name, value):
            yield Mistake(("vllm", "env", name), problem)
