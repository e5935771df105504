"""`spec.vllm`: vLLM's arguments, files and variables, each checked against the table of what it can do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from vmtool.schema import HostPath, Strict
from vmtool.serving.vllm_arguments import Argument, Mistake, Read, from_mapping, refused_by_name
from vmtool.serving.vllm_options import table
from vmtool.serving.vllm_words import from_words
from vmtool.spec.vllm_mapping import mapping_hint

Power = Literal["code", "files", "network", "logging", "requests", "unknown"]
# Where the spec's files are in the container, each in a directory of its option's name.
FILES = "/models/files"
# Options whose value is a path that vLLM reads: the only ones that `files` can give.
ReadByPath = Literal["chat-template", "tool-parser-plugin", "reasoning-parser-plugin", "hf-config-path",
                     "generation-config", "tokenizer", "spec-model"]
READ_BY_PATH: tuple[str, ...] = get_args(ReadByPath)
Words = tuple[str, ...]


def digits(value: Any) -> Any:
    """A whole number where a text is taken, as its digits: nobody reads `8000` or `4` as anything else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Digits = Annotated[str, BeforeValidator(digits), WithJsonSchema({"type": ["string", "integer"]})]


def located(problems: Sequence[Mistake], hint: str = "") -> ValidationError:
    """Problems that pydantic reports with their places; the hint is for all of them."""
    return ValidationError.from_exception_data("vLLM", [InitErrorDetails(
        type=PydanticCustomError("vllm", "{text}", {"text": problem.text, "hint": hint}), loc=problem.place, input=None)
        for problem in problems])


def read_args(value: Any) -> Words | dict[str, Any]:
    """Arguments as a mapping, or as words: one text is split as a shell would, and is never given to one.

    Raises:
        ValueError, ValidationError: they are not arguments of vLLM; the latter says where.
    """
    if isinstance(value, dict):
        if problems := _problems(from_mapping(value)):
            raise located(problems)
        return value
    try:
        words = tuple(shlex.split(value)) if isinstance(value, str) else tuple(map(digits, value or ()))
    except (TypeError, ValueError) as error:
        ending = "a backslash or a quote is open at its end" if isinstance(error, ValueError) else "not arguments"
        raise ValueError(f"{ending}; write a mapping, such as {{max-model-len: 256}}") from None
    if wrong := [Mistake((index,), "is not a text: put it in quotes") for index, word in enumerate(words)
                 if not isinstance(word, str)]:
        raise located(wrong)
    if problems := _problems(from_words(words)):
        raise located(problems, mapping_hint(words))
    return words


def _problems(read: Read) -> tuple[Mistake, ...]:
    """What is no argument, and what is one that nobody can give."""
    refused = tuple(Mistake(argument.place, text) for argument in read[0] if (text := refused_by_name(argument.option)))
    return read[1] + refused


# Written as it is: pydantic's serializer of the union warns of every tuple.
Args = Annotated[
    tuple[str, ...] | dict[str, Any], PlainValidator(read_args), PlainSerializer(lambda args: args, return_type=Any),
    WithJsonSchema({"anyOf": [
        {"type": "object"}, {"type": "array", "items": {"type": "string"}}, {"type": "string"}]})]


class Vllm(Strict):
    """vLLM's own settings.

    Args:
        args: vLLM's options without their dashes, with their values; a list of words, or one text, is read too;
            e.g. `{max-model-len: 4096, enforce-eager: true, speculative-config: {method: ngram}}`
        env: environment variables, each of which vmtool knows; secrets are refused; e.g. `{OMP_NUM_THREADS: 4}`
        files: files and directories of this host that options of vLLM read: the option, and the path; they are mounted
            read-only; e.g. `{chat-template: ./chat.jinja}`
        allow: what options and variables may do beyond serving: run code, reach files by path, use the network, write
            prompts to the log, let requests bring templates and tensors, or be unknown to vmtool; e.g. `[network]`
        api_key_file: a file with one API key in each line; without it a random key is made; e.g. `/etc/vmtool/keys`
    """

    args: Args = Field(default_factory=tuple)
    env: dict[str, Digits] = Field(default_factory=dict)
    files: dict[ReadByPath, HostPath] = Field(default_factory=dict)
    allow: tuple[Power, ...] = ()
    api_key_file: HostPath | None = None

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """What `args` says, whatever its form."""
        return _read(self.args)[0]

    @property
    def started_with(self) -> tuple[Argument, ...]:
        """The arguments, with the files' places in the container."""
        files = (Argument(table().options[name], inside, ("files", name)) for name, (_, inside) in self.mounts.items())
        return (*self.arguments, *files)

    def gives(self, option: str) -> bool:
        """Whether `args` has this option."""
        return any(argument.option.name == option for argument in self.arguments)

    @property
    def mounts(self) -> dict[str, tuple[Path, str]]:
        """Option to (path on this host, path in the container)."""
        return {name: (path, f"{FILES}/{name}/{path.name}") for name, path in self.files.items()}


def _read(args: Words | Mapping[str, Any]) -> Read:
    return from_mapping(args) if isinstance(args, Mapping) else from_words(args)

