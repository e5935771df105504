"""What vLLM must not be asked for when its model is encrypted: checked in the spec, and again by the entrypoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vmtool.serving.vllm_arguments import Argument, Mistake
from vmtool.serving.vllm_options import MODEL_CODE, UNKNOWN
from vmtool.serving.vllm_words import from_words

LOAD_FORMAT = "cryptotensors"
# Code of others in the engine's processes could write down what was decrypted there.
CODE = {"code", MODEL_CODE, UNKNOWN}
# Ways to guess further tokens that load no second model.
WITHOUT_MODEL = ("ngram", "ngram_gpu", "suffix")
REFUSED = {
    "model-loader-extra-config": "is of other loaders",
    "spec-model": "a draft model would be loaded in clear",
    "weight-transfer-config": "takes weights from elsewhere, and in clear",
    "download-dir": "is of other loaders",
}
# Variables, and which values of them do nothing.
VARIABLES = {
    "VLLM_PLUGINS": ("",), "VLLM_SERVER_DEV_MODE": ("", "0"), "VLLM_ALLOW_INSECURE_SERIALIZATION": ("", "0"),
    "VLLM_TEST_FORCE_LOAD_FORMAT": ("",), "VLLM_DEBUG_DUMP_PATH": ("",), "LD_PRELOAD": ("",),
}
OFF = ("", "0", "false", "no", "off")
# Each multiplies the processes that read the model; of the last two the one that says how many are on this machine.
WIDTHS = ("tensor-parallel-size", "pipeline-parallel-size", "prefill-context-parallel-size")
COPIES = ("data-parallel-size-local", "data-parallel-size")


def argument_problems(arguments: Iterable[Argument]) -> Iterator[Mistake]:
    """Arguments that an encrypted model does not go with."""
    for argument in arguments:
        name, value = argument.option.name, argument.value
        if name == "load-format":
            if value != LOAD_FORMAT:
                yield Mistake(argument.place, f"--load-format {str(value)[:40]} reads or leaves weights in clear; an "
                                              f"encrypted model has {LOAD_FORMAT}")
        elif name in REFUSED:
            yield Mistake(argument.place, f"--{name} {REFUSED[name]}; leave it out of an encrypted model's spec")
        elif name == "speculative-config" and not guesses_alone(value):
            yield Mistake(argument.place, "a draft model would be loaded in clear; what needs none is "
                                          f"method: {', '.join(WITHOUT_MODEL)}")
        elif name == "spec-method" and value not in WITHOUT_MODEL:
            yield Mistake(argument.place, f"--{name} {str(value)[:40]} loads a draft model, which would be in clear")
        elif CODE & set(argument.option.powers(value)):
            yield Mistake(argument.place, f"--{name} runs code of others beside an encrypted model, which could write "
                                          "it down in clear")


def words_problem(words: Sequence[str], *, encrypted: bool, engine: str) -> str:
    """Why a command line for vLLM does not go with an encrypted model, or with another; empty when it does."""
    arguments, _ = from_words(words)
    asked = any(each.option.name == "load-format" and each.value == LOAD_FORMAT for each in arguments)
    if asked and not encrypted:
        return f"--load-format {LOAD_FORMAT} needs --model-signer before the --"
    if encrypted and engine == "vllm" and not asked:
        return f"an encrypted model needs --load-format {LOAD_FORMAT} after the --"
    return next((problem.text for problem in argument_problems(arguments)), "") if encrypted else ""


def worker_count(words: Sequence[str]) -> int:
    """How many processes of the engine read the model."""
    arguments, _ = from_words(words)
    given = {each.option.name: int(each.value) for each in arguments if each.option.name in (*WIDTHS, *COPIES)}
    copies = next((given[name] for name in COPIES if name in given), 1)
    return max(1, copies * math.prod(given.get(name, 1) for name in WIDTHS))


def guesses_alone(value: object) -> bool:
    """Whether this speculation loads no second model."""
    return isinstance(value, dict) and value.get("method") in WITHOUT_MODEL and not value.get("model")


def variable_problem(name: str, value: str) -> str:
    """Why a variable does not go with an encrypted model; empty when it does."""
    if "TRUST_REMOTE_CODE" in name.upper() and value.strip().lower() not in OFF:
        return "code of the model's own could write it down in clear"
    if name in VARIABLES and value not in VARIABLES[name]:
        return "loads or writes more than the encrypted model; leave it out"
    return ""


def environment_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """The same of a whole environment, each with its name."""
    for name, value in environment.items():
        if problem := variable_problem(name, value):
            yield f"{name}: {problem}"
