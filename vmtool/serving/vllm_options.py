"""The options and variables of vLLM's server, and what each can do: the table that `scripts/vllm-options` makes.

A power is what an option can do beyond serving: run code, reach files, use the network, write prompts to the log, let
requests bring more than text. Nothing is allowed but what the table calls plain, or what the spec grants by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PLAIN, SECRET, OWN, MODEL_CODE, UNKNOWN = "plain", "secret", "own", "model-code", "unknown"
# What `vllm.allow` can grant.
GRANTED = ("code", "files", "network", "logging", "requests", UNKNOWN)
POWERS = {
    "code": "runs code of the image or of files that are given to it",
    MODEL_CODE: "runs code out of the model's directory",
    "files": "reads or writes files by path",
    "network": "listens or connects elsewhere",
    "logging": "writes prompts and answers to the log",
    "requests": "lets whoever asks bring templates, tensors or addresses of their own",
    UNKNOWN: "is in no table, so what it can do is not known",
}
# What is decided elsewhere in the spec.
INSTEAD = {
    "model": "spec.model.path: DIRECTORY", "served-model-name": "spec.model.name: NAME",
    "host": 'spec.network.publish: ["IP:PORT:8000"]', "port": 'spec.network.publish: ["PORT:8000"]',
    "api-key": "spec.vllm.api_key_file: FILE", "config": "its keys into spec.vllm.args",
    "trust-remote-code": "spec.model.trust_remote_code: true",
}


@dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: without its dashes.
        kind: flag, int, size (an int that may be written 64M), float, text or json.
        power: what it can do.
        aliases: other spellings, with dashes.
        off: whether `--no-NAME` is there too.
        many: takes one word or more.
        bare: may stand without a value.
        choices: the only values; empty for any.
        keys: power of each key of its JSON, "*" for those that are not listed; empty when any key is as `power`.
        values: power of single values, or of "key=value" in its JSON.
        dest: how the server calls it where it lists its arguments.
    """

    name: str
    kind: str
    power: str
    aliases: tuple[str, ...] = ()
    off: bool = False
    many: bool = False
    bare: bool = False
    choices: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    dest: str = ""
    default: Any = None

    @property
    def field(self) -> str:
        return self.dest or self.name.replace("-", "_")

    def powers(self, value: Any) -> tuple[str, ...]:
        """What it can do with this value, which is of its kind; a flag that is off does nothing."""
        if self.kind == "flag" and value is False:
            return ()
        if self.kind == "json" and isinstance(value, dict) and self.keys:
            found = [self.keys.get(key, self.keys.get("*", UNKNOWN)) for key in value]
            found += [power for pair, power in self.values.items()
                      for key, _, text in (pair.partition("="),) if value.get(key) == text]
            return tuple(dict.fromkeys(power for power in found if power != PLAIN))
        words = value if isinstance(value, list) else [value]
        found = [self.values.get(str(word), self.power) for word in words]
        return tuple(dict.fromkeys(power for power in found if power != PLAIN))


@dataclass(frozen=True)
class Table:
    """All of one version.

    Args:
        options: by name.
        spellings: each way to write an option, with its dashes, to its name.
        environment: name of a variable to its power.
    """

    version: str
    options: dict[str, Option]
    spellings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@cache
def table() -> Table:
    """The table of the version that vmtool's own image has."""
    read = json.loads(Path(__file__).with_suffix(".json").read_text())
    options = {name: _option(name, **values) for name, values in read["options"].items()}
    spellings = {f"--{name}": name for name in options} | {
        alias: option.name for option in options.values() for alias in option.aliases}
    return Table(read["vllm"], options, spellings,
                 {name: power for power, names in read["environment"].items() for name in names})


def _option(name: str, **values: Any) -> Option:
    for key in ("aliases", "choices"):
        values[key] = tuple(values.get(key, ()))
    return Option(name, **values)
