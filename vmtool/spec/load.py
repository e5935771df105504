"""Reading runtime.yaml, in vmtool's dialect or vllmd's: all mistakes are reported together, each with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vmtool import documents
from vmtool.errors import Refused
from vmtool.scalars import Ambiguity
from vmtool.schema import WRITTEN
from vmtool.spec.mistakes import in_words, taken_as_words
from vmtool.spec.runtime import Spec

# Lines of one error.
MOST = 40
# A whole file to compare with.
START = "vmtool spec example runc"
Model = TypeVar("Model", bound=BaseModel)
# Words that a reader of YAML 1.1 takes for something else, where that can only mean the same.
AGREED: dict[documents.Place, tuple[str, ...]] = {("spec", "restart", "policy"): ("no",)}


def read_spec(path: Path) -> Spec:
    """Read runtime.yaml; relative paths in it are relative to its directory.

    Raises:
        Refused: every mistake at once, each with file, line and key.
    """
    document = documents.read(path, START)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint=START)
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
    taken = taken_as_words(document, spelled, model, changes) if spelled else set()
    try:
        found = model.model_validate_json(json.dumps({**document.value, **changes}), strict=True,
                                          context=WRITTEN)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            hint = hint or detail.get("ctx", {}).get("hint", "")
            place = tuple(detail["loc"])
            # A problem of a value's spelling is reported once.
            above = next((place[:length] for length in range(1, len(place) + 1) if place[:length] in spelled), place)
            problems[above] = in_words(document, detail, model, spelled.get(above, ""), word=above in taken)
    problems |= {place: problem.as_text() if isinstance(problem, Ambiguity) and place not in taken else str(problem)
                 for place, problem in spelled.items() if place not in problems}
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
                                                 for name in ("image", "kernel", "firmware", "device_tree")})
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
