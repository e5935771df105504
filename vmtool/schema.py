"""What every model of a file that a person writes shares: unknown keys are errors, and sizes have units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from vmtool.quantity import parse_size, parse_size_with_unit


def _size(value: Any, info: ValidationInfo) -> int:
    """What a person writes has a unit; bytes are what vmtool itself keeps."""
    try:
        return parse_size_with_unit(value) if info.context == WRITTEN else parse_size(value)
    except ValueError as error:
        raise PydanticCustomError("size", "{text}", {"text": str(error)}) from None


def _path(value: Any) -> Path:
    """A path that names something: an empty one would be the file's own directory."""
    if not isinstance(value, str | Path):
        raise PydanticCustomError("string_type", "not a path")
    if value == "" or "\0" in str(value):
        raise ValueError("names no file: it is empty" if value == "" else "holds a zero byte")
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{Path(value).parts[0]}: this host has no such user, so no home of one") from None
    return Path(value)


Model = TypeVar("Model", bound=BaseModel)
# The context in which a file that a person wrote is validated.
WRITTEN = "written"
Size = Annotated[int, BeforeValidator(_size), Field(gt=0), WithJsonSchema(
    {"type": "string", "pattern": r"^[0-9]{1,15} *([kMGT]|[KMGT]i)$"})]

# A file or directory of this host.
HostPath = Annotated[Path, PlainValidator(_path), WithJsonSchema({"type": "string", "format": "path", "minLength": 1})]


class Strict(BaseModel):
    """Frozen; unknown keys are errors."""

    # Built at the first use, when every model inside is built along; else each would be built several times at import.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True,
                              defer_build=True)


def defaults(model: type[Model]) -> Model:
    """A model that says nothing, as the default of a key. Made without validating, for which pydantic would build a
    validator of this model alone: that takes longer than everything else that an import does."""
    return model.model_construct()
