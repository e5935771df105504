"""Reading runtime.yaml, in vmtool's dialect or vllmd's: every mistake is told at once, with its place."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vmtool import documents
from vmtool.errors import Refused
from vmtool.spec.runtime import Spec
from vmtool.spec.vllmd import VllmdSpec


def read_spec(path: Path) -> Spec:
    """Read runtime.yaml; relative paths in it are relative to its directory.

    Raises:
        Refused: every mistake at once, each with file, line and key.
    """
    document = documents.read(path)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint="start from images/quickstart.yaml")
    dialect: type[Spec] | type[VllmdSpec] = Spec
    if str(document.value.get("apiVersion", "")).startswith("vllmd"):
        dialect = VllmdSpec
    try:
        spec = dialect.model_validate(document.value)
    except ValidationError as error:
        problems = [problem_line(document, detail, dialect) for detail in error.errors(include_url=False)]
        raise Refused(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", details=problems) from None
    return _anchored(spec if isinstance(spec, Spec) else spec.translated(), path.absolute().parent)


def _anchored(spec: Spec, directory: Path) -> Spec:
    """The spec with its paths made absolute."""
    def anchor(path: Path | None) -> Path | None:
        try:
            return path and directory / path.expanduser()
        except RuntimeError as error:
            raise Refused(f"{path}: {error}") from error

    runtime = spec.spec.runtime
    libvirt = runtime.libvirt.model_copy(update={name: anchor(getattr(runtime.libvirt, name))
                                                 for name in ("image", "kernel", "firmware")})
    runtime = runtime.model_copy(update={"libvirt": libvirt})
    model = spec.spec.model.model_copy(update={"path": anchor(spec.spec.model.path)})
    vllm = spec.spec.vllm.model_copy(update={"api_key_file": anchor(spec.spec.vllm.api_key_file)})
    return spec.model_copy(update={"spec": spec.spec.model_copy(update={"runtime": runtime, "model": model,
                                                                      "vllm": vllm})})


def problem_line(document: documents.Document, detail: ErrorDetails, dialect: type[BaseModel]) -> str:
    """A mistake that pydantic found, with its file, line and key; near keys and values are suggested."""
    place = tuple(detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys(dialect, place[:-1]), n=1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif detail["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        near = difflib.get_close_matches(str(detail["input"]), choices, n=1)
        message = f"{detail['input']!r} is not one of {', '.join(choices)}" + (
            f"; did you mean {near[0]!r}?" if near else "")
    elif detail["type"] == "missing":
        message = "missing"
    return f"{document.where(place)}: {'.'.join(map(str, place)) or 'document'}: {message}"


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
