"""Claims about vLLM's arguments: that it took what was asked, and can do no more than the spec grants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vmtool.claims import Claim
from vmtool.endpoint.vllm_report import MARK, Taken, compare, read_line, unasked
from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance
from vmtool.machine import Reader
from vmtool.serving.vllm_arguments import Argument
from vmtool.serving.vllm_options import PLAIN, table
from vmtool.spec.vllm_environment import power_of

if TYPE_CHECKING:
    from vmtool.spec.runtime import Body


def vllm_claims(reader: Reader, instance: Instance) -> Iterator[Claim]:
    """What vLLM says of itself, compared with the spec that the instance was launched with."""
    from vmtool.spec.facts import find_own_spec  # slow to import, and only a look at a launch needs it

    spec = find_own_spec(reader, instance.paths.spec)
    if spec is None or spec.spec.model.engine != "vllm":
        return
    body = spec.spec
    said = parse_json(reader.text(str(instance.paths.server)) or "{}")
    reported = read_line(said.get("arguments") or "")
    if reported is None:
        yield Claim("vllm.arguments", "not-checked", f"the log has no line with {MARK.strip(': ')!r}")
        yield Claim("vllm.powers", "not-checked", f"asked for: {_granted(body)}")
        return
    more = unasked(body.server_arguments, reported)
    yield _arguments(list(compare(body.server_arguments, reported)), more, _models(said, body))
    yield _powers(body, more)


def _arguments(taken: Sequence[Taken], more: dict[str, Any], models: list[str]) -> Claim:
    wrong = [f"{_place(each.argument)} asked for {' '.join(each.argument.words)[:80]}, and the server has {each.said}"
             for each in taken if each.same is False]
    wrong += [f"a word of spec.vllm.args was swallowed: the server has {name}={value!r:.80}"
              for name, value in more.items()] + models
    if wrong:
        return Claim("vllm.arguments", "failed", "; ".join(wrong))
    unsaid = [each.argument.option.name for each in taken if each.same is None]
    if unsaid:
        return Claim("vllm.arguments", "not-checked", f"the server does not say whether it took {', '.join(unsaid)}")
    words = " ".join(" ".join(each.argument.words) for each in taken)
    return Claim("vllm.arguments", "proven", f"the server's own list: {words[:160]}" if words else
                 "none were asked for, and the server has none")


def _models(said: dict[str, Any], body: Body) -> list[str]:
    """What /v1/models contradicts."""
    try:
        model = said["models"]["data"][0]
        length = next((each.value for each in body.server_arguments if each.option.name == "max-model-len"), "auto")
        if str(length).isdecimal() and model["max_model_len"] != int(length):
            return [f"spec.vllm.args.max-model-len is {length}, and /v1/models says {model['max_model_len']}"]
    except (KeyError, IndexError, TypeError):
        return []
    return []


def _powers(body: Body, more: dict[str, Any]) -> Claim:
    """What the server can do beyond serving: what the spec grants, and nothing that it took by itself."""
    fields = {option.field: option for option in table().options.values()}
    found = [name for name, value in more.items() if name not in fields or fields[name].powers(value)]
    if found:
        return Claim("vllm.powers", "failed", f"the server has {', '.join(found)}, which the spec does not grant")
    return Claim("vllm.powers", "proven", _granted(body))


def _granted(body: Body) -> str:
    words = [f"{power} by {_place(argument)}" for argument in body.server_arguments
             for power in argument.option.powers(argument.value)]
    words += [f"{power_of(name)} by spec.vllm.env.{name}" for name in body.vllm.env if power_of(name) != PLAIN]
    return ", ".join(words) or "none beyond serving"


def _place(argument: Argument) -> str:
    """Where in the spec it is asked for."""
    if argument.place[:1] in (("files",), ("model",)):
        where = ("vllm", *argument.place) if argument.place[0] == "files" else argument.place
        return ".".join(("spec", *map(str, where)))
    return f"spec.vllm.args.{argument.option.name}"
