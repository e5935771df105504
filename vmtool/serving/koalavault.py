"""KoalaVault's flags and variables, taken over by the entrypoint before anything else reads them.

    --koalavault-api-key KEY, or KOALAVAULT_API_KEY       taken away; evidence takes the place of an API key here
    --koalavault-model OWNER/NAME                         the resource OWNER/NAME/key
    BASE_URL                                              the broker's address

A process's arguments and variables can be read as long as it runs (proc(5)), and its children inherit the latter: so
the entrypoint starts itself again without them. What started the container may still have written them down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmtool.serving.kbs.resource_name import resource_name

PREFIX = "--koalavault"
API_KEY, MODEL = f"{PREFIX}-api-key", f"{PREFIX}-model"
VARIABLES = ("KOALAVAULT_API_KEY", "BASE_URL")
# KoalaVault's own exit status for a model that would run code.
REMOTE_CODE, WRONG = 7, 2
OURS = ("--model-key-broker", "--model-key-resource")


@dataclass(frozen=True)
class Translated:
    """What the entrypoint is started with instead.

    Args:
        status: exit status when it is not started; then `problem` says why.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    status: int = 0
    problem: str = ""


def translated(argv: Sequence[str], environment: Mapping[str, str]) -> Translated | None:
    """The launch without KoalaVault's words; None when there are none."""
    words, found = _without(argv)
    unknown = any(word.startswith(PREFIX) for word in words)
    if not found and not unknown and VARIABLES[0] not in environment:
        return None
    kept = {name: value for name, value in environment.items() if name not in VARIABLES}
    model, url = found.get(MODEL, ""), environment.get(VARIABLES[1], "")
    if "--trust-remote-code" in map(_name, words):
        return Translated((), kept, REMOTE_CODE, "--trust-remote-code is refused: the model's code could write it down")
    if unknown:
        # No word of it, for it may have the key: argparse would write all of it into the log.
        return Translated((), kept, WRONG, f"a flag that begins with {PREFIX} is none; there are {API_KEY} and {MODEL}")
    if not model:
        return Translated((), kept, WRONG, f"{MODEL} OWNER/NAME is missing")
    try:
        resource = resource_name(f"{model}/key")
    except ValueError:
        return Translated((), kept, WRONG, f"{MODEL}: OWNER/NAME was expected, of letters, digits, '.', '_' and '-'")
    # In front: what follows a -- is for vLLM.
    return Translated((*((OURS[0], url) if url else ()), OURS[1], resource, *words), kept)


def _without(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are not KoalaVault's, and its values: a later one counts, as with argparse."""
    words, found, left = list[str](), dict[str, str](), iter(argv)
    for word in left:
        _, equals, value = word.partition("=")
        if _name(word) in (API_KEY, MODEL):
            found[_name(word)] = value if equals else next(left, "")
        else:
            words.append(word)
    return words, found


def _name(word: str) -> str:
    """A flag's name as vLLM reads it, which takes underscores for hyphens."""
    return word.partition("=")[0].replace("_", "-")
