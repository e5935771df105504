"""The JSON Schema of runtime.yaml, for editors: made of the same models that read it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from vmtool.spec.keys import EXAMPLE, documented, section_of
from vmtool.spec.runtime import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema, as it is shipped beside this module."""
    schema = Spec.model_json_schema(by_alias=True)
    models = {model.__name__: model for model in _models(Spec)}
    for name, part in ((Spec.__name__, schema), *schema.get("$defs", {}).items()):
        if name in models:
            _describe(part, models[name])
    return json.dumps({"$schema": DIALECT, **schema, "title": "vmtool runtime.yaml"}, indent=1) + "\n"


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [section_of(field.annotation) for field in model.model_fields.values()]
    return [model, *(each for section in inner if section for each in _models(section))]


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    """Put the docstring's words where editors show them."""
    part["description"] = (model.__doc__ or "").partition("\n")[0]
    meanings = documented(model)
    for name, field in model.model_fields.items():
        shown = part["properties"][field.alias or name]
        shown["description"] = EXAMPLE.sub("", meanings.get(name, "")).rstrip(".")
        # What is left out may also be written as nothing in JSON, but never in a spec.
        shown.pop("title", None)
        if shown.get("type") == "string" and isinstance(shown.get("default"), int):
            shown.pop("default")  # bytes, as vmtool keeps them; a person writes a unit
