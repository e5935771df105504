"""What a spec's arguments, files and variables for vLLM can do beyond serving, and whether the spec grants it."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from vmtool.serving.vllm_arguments import Argument, Mistake, near
from vmtool.serving.vllm_options import INSTEAD, MODEL_CODE, POWERS, UNKNOWN, table
from vmtool.spec.vllm import READ_BY_PATH, Vllm
from vmtool.spec.vllm_environment import holds_secret, power_of, variable_problem

MODEL = "/models/local"
# What this host's files and logs would take away from a TEE.
NOT_IN_A_TEE = {"code", MODEL_CODE, "logging", UNKNOWN}
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def power_problems(vllm: Vllm, *, remote_code: bool, fetched: bool, tee: str) -> Iterator[Mistake]:
    """What is not granted, or cannot be, with its place below `spec`.

    Args:
        remote_code: code out of the model's directory may run.
        fetched: the model comes from a hub, so repositories may be named.
        tee: "none" when the host is trusted.
    """
    for argument in vllm.arguments:
        place = ("vllm", "args", *argument.place)
        if any(map(holds_secret, _texts(argument.value))):
            yield Mistake(place, "holds a password or a token, which arguments, plans and logs would show")
        elif problem := _not_granted(argument, vllm, remote_code, fetched):
            yield Mistake(place, problem)
        elif tee != "none" and (found := NOT_IN_A_TEE & set(powers(argument, fetched=fetched))):
            yield Mistake(place, _in_a_tee(sorted(found)[0], tee))
    for name, value in vllm.env.items():
        if text := variable_problem(name, value, vllm.allow):
            yield Mistake(("vllm", "env", name), text)
        elif tee != "none" and (power := power_of(name)) in NOT_IN_A_TEE:
            yield Mistake(("vllm", "env", name), _in_a_tee(power, tee))
    yield from _files(vllm, tee)
    if remote_code and tee != "none":
        yield Mistake(("model", "trust_remote_code"), _in_a_tee(MODEL_CODE, tee))


def powers(argument: Argument, *, fetched: bool) -> tuple[str, ...]:
    """What one argument can do; a path inside the model's directory reaches nothing that is not served anyway."""
    found = argument.option.powers(argument.value)
    paths = list(_paths(argument))
    if paths and all(_harmless(argument.option.name, path, fetched) for path in paths):
        return tuple(power for power in found if power != "files")
    return found


def _not_granted(argument: Argument, vllm: Vllm, remote_code: bool, fetched: bool) -> str:
    name = argument.option.name
    if name == "trust-remote-code":
        return f"--{name} {POWERS[MODEL_CODE]}: write {INSTEAD[name]}"
    for power in powers(argument, fetched=fetched):
        if power in vllm.allow or (power == MODEL_CODE and remote_code):
            continue
        if power == UNKNOWN and argument.option.power == UNKNOWN:
            hint = near(name) or f"; if a vLLM other than {table().version} has it: spec.vllm.allow: [unknown]"
            return f"unknown option --{name}{hint}"
        if power == UNKNOWN:
            inner = next(each for each in argument.value if each not in argument.option.keys)
            meant = difflib.get_close_matches(inner, argument.option.keys, n=1)
            return f"unknown key {inner[:40]!r} of {name}" + (f"; did you mean {meant[0]!r}?" if meant else "")
        if power == "files" and name in READ_BY_PATH:
            path = next(_paths(argument), "")
            return (f"{path[:80]} is a path in the container, where no file of this host is: write "
                    f"spec.vllm.files: {{{name}: {path[:80]}}}, which mounts it")
        key = INSTEAD["trust-remote-code"] if power == MODEL_CODE else f"spec.vllm.allow: [{power}]"
        return f"--{name} {POWERS[power]}: allow it with {key}"
    return ""


def _files(vllm: Vllm, tee: str) -> Iterator[Mistake]:
    given = {argument.option.name for argument in vllm.arguments}
    for name in vllm.files:
        place = ("vllm", "files", name)
        if name in given:
            yield Mistake(place, f"{name} is in args too")
        if table().options[name].power != "code":
            continue
        if "code" not in vllm.allow:
            yield Mistake(place, f"{POWERS['code']}: allow it with spec.vllm.allow: [code]")
        elif tee != "none":
            yield Mistake(place, _in_a_tee("code", tee))


def _in_a_tee(power: str, tee: str) -> str:
    return f"{POWERS[power]}, and tee {tee} is there to protect against this host"


def _paths(argument: Argument) -> Iterator[str]:
    """The texts of an argument that name files."""
    option, value = argument.option, argument.value
    if isinstance(value, dict):
        chosen: list[Any] = [value[key] for key in value if option.keys.get(key, option.keys.get("*")) == "files"]
    else:
        chosen = value if isinstance(value, list) else [value]
        chosen = [each for each in chosen if option.values.get(str(each), option.power) == "files"]
    for each in chosen:
        text = each if isinstance(each, str) else ""
        # NAME=PATH; with a comma, or a second =, vLLM takes it for JSON, or not at all.
        name_and_path = option.name == "lora-modules" and "," not in text and text.count("=") == 1
        yield text.partition("=")[2] if name_and_path else text


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(each)


def _harmless(name: str, path: str, fetched: bool) -> bool:
    inside = posixpath.normpath(path)
    if inside == MODEL or inside.startswith(f"{MODEL}/"):
        return True
    # A chat template may be the template itself.
    template = name == "chat-template" and bool(re.search(r"\{[{%#]", path))
    return template or (fetched and bool(REPOSITORY.fullmatch(path)))
