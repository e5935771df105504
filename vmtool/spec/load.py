"""Reading runtime.yaml, in vmtool's dialect or vllmd's: all mistakes are reported together, each with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vmtool import documents
from vmtool.errors import Refused
from vmtool.scalars import TAG, Ambiguity, quoted, scalar
from vmtool.schema import WRITTEN
from vmtool.spec.runtime import Spec

# Lines of one error.
MOST = 40
Model = TypeVar("Model", bound=BaseModel)
# pydantic's type of mistake -> what the key takes.
WANTED = {
    "string_type": "a text", "path_type": "a path", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list",
    "dict_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
}
# Words that a reader of YAML 1.1 takes for something else, where that can only mean the same.
AGREED: dict[documents.Place, tuple[str, ...]] = {("spec", "restart", "policy"): ("no",)}


def read_spec(path: Path) -> Spec:
    """Read runtime.yaml; relative paths in it are relative to its directory.

    Raises:
        Refused: every mistake at once, each with file, line and key.
    """
    document = documents.read(path)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint=documents.START)
    if str(document.value.get("apiVersion", "")).startswith("vllmd"):
        from vmtool.spec.vllmd import VllmdSpec  # few files are of that dialect

        spec = validated(document, VllmdSpec).translated()
    else:
        spec = validated(document, Spec)
    return _anchored(spec, path.absolute().parent)


def validated(document: documents.Document, model: type[Model], changes: Mapping[str, Any] = {}) -> Model:
    """A document as a model. Nothing is converted: a number is no text, and true is no number.

    Args:
        changes: what takes the place of keys of the document.

    Raises:
        Refused: every mistake at once, each with file, line and key.
    """
    spelled = {place: problem for place, problem in document.problems.items()
               if document.words[place] not in AGREED.get(place, ())}
    problems: dict[documents.Place, str] = {}
    found: Model | None = None
    hint = ""
    try:
        found = model.model_validate_json(json.dumps({**document.value, **changes}), strict=True,
                                          context=WRITTEN)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            hint = hint or detail.get("ctx", {}).get("hint", "")
            place = tuple(detail["loc"])
            # A problem of a value's spelling is reported once.
            above = next((place[:length] for length in range(1, len(place) + 1) if place[:length] in spelled), place)
            problems[above] = _spelled(spelled.get(above, ""), detail, _problem(document, detail, model))
    problems |= {place: str(problem) for place, problem in spelled.items() if place not in problems}
    if found is None or problems:
        lines = sorted((document.line(place, problem) for place, problem in problems.items()), key=lambda line: int(
            line.removeprefix(f"{document.path}:").partition(":")[0]))
        more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        hint = hint or (_explanation(next(iter(problems))) if model is Spec else "")
        raise Refused(f"{document.path}: {len(lines)} problem{'s' if len(lines) > 1 else ''}",
                      details=lines[:MOST] + more, hint=hint)
    return found


def _anchored(spec: Spec, directory: Path) -> Spec:
    """The spec with its paths made absolute."""
    def anchor(path: Path | None) -> Path | None:
        return path and directory / path.expanduser()

    runtime = spec.spec.runtime
    libvirt = runtime.libvirt.model_copy(update={name: anchor(getattr(runtime.libvirt, name))
                                                 for name in ("image", "kernel", "firmware")})
    runtime = runtime.model_copy(update={"libvirt": libvirt})
    encryption = spec.spec.model.encryption
    if encryption:
        broker = encryption.key.broker
        key = encryption.key.model_copy(update={"file": anchor(encryption.key.file), "broker": broker and
                                                broker.model_copy(update={"ca": anchor(broker.ca)})})
        encryption = encryption.model_copy(update={"signer": anchor(encryption.signer), "key": key})
    model = spec.spec.model.model_copy(update={"path": anchor(spec.spec.model.path), "encryption": encryption})
    vllm = spec.spec.vllm.model_copy(update={
        "api_key_file": anchor(spec.spec.vllm.api_key_file),
        "files": {name: anchor(path) for name, path in spec.spec.vllm.files.items()}})
    tls = spec.spec.tls.model_copy(update={name: anchor(getattr(spec.spec.tls, name))
                                           for name in ("certificate", "key", "clients")})
    return spec.model_copy(update={"spec": spec.spec.model_copy(update={"runtime": runtime, "model": model,
                                                                      "vllm": vllm, "tls": tls})})


def _explanation(place: documents.Place) -> str:
    """The command that explains the key at a place, or the section that it would be in."""
    from vmtool.spec.keys import all_keys  # only for a mistake: reading a spec need not know its docstrings

    known = {key.path for key in all_keys()}
    words = [str(word) for word in place]
    while words and ".".join(words) not in known:
        words.pop()
    return " ".join(("vmtool spec explain", ".".join(words))).strip()


def _problem(document: documents.Document, detail: ErrorDetails, model: type[BaseModel]) -> str:
    """A mistake that pydantic found, in a person's words; near keys and values are suggested."""
    import difflib

    place, kind, value = tuple(detail["loc"]), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys(model, place[:-1]), n=1)
        return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        near = difflib.get_close_matches(str(value), choices, n=1)
        return f"{value!r} is not one of {', '.join(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return "missing"
    if kind.endswith("_type") and (wanted := WANTED.get(kind)):
        return _other_type(document.words.get(place), value, kind, wanted)
    return detail["msg"].removeprefix("Value error, ")


def _spelled(spelling: str | Ambiguity, detail: ErrorDetails, problem: str) -> str:
    """A mistake at a value that is wrong as it is written, too: one message, with what to write in its place."""
    if not isinstance(spelling, Ambiguity):
        return spelling or problem
    if detail["type"] in WANTED and detail["type"] not in ("string_type", "path_type"):
        return spelling.as_value(WANTED[detail["type"]])
    return f"{spelling.is_read}; {problem}" if detail["type"] in ("size", "vllm") else str(spelling)


def _other_type(word: str | None, value: Any, kind: str, wanted: str) -> str:
    """A value of another type than the key's; `word` is how it is written."""
    if value is None:
        word = ', "null" for that very word,' if kind in ("string_type", "path_type") else ""
        return f"has no value; write {wanted}{word} or leave the key out"
    if word is None:
        return f"must be {wanted}, not a {'list' if isinstance(value, list) else 'mapping'}"
    if kind in ("string_type", "path_type"):
        return f"{word[:40]} is {'true or false' if isinstance(value, bool) else 'a number'} here, and the key takes " \
               f"text: put it in quotes, {quoted(word[:40])}"
    if isinstance(value, str) and scalar(yaml.ScalarNode(TAG, word))[0] != word:
        return f"{quoted(word[:40])} is a text, and the key takes {wanted}: write it without quotes"
    return f"{word[:40]!r} is not {wanted}"


def _keys(model: type[BaseModel], place: documents.Place) -> list[str]:
    """The keys that are known at a place of the document."""
    for part in place:
        field = next((field for name, field in model.model_fields.items() if part in (name, field.alias)), None)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]
