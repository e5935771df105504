"""What every model of a file that a person writes shares: unknown keys are errors, and sizes have units."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from vmtool.quantity import parse_size, parse_size_with_unit


def _size(value: Any, info: ValidationInfo) -> int:
    """What a person writes has a unit; bytes are what vmtool itself keeps."""
    return parse_size_with_unit(value) if info.context == WRITTEN else parse_size(value)


Model = TypeVar("Model", bound=BaseModel)
# The context in which a file that a person wrote is validated.
WRITTEN = "written"
Size = Annotated[int, BeforeValidator(_size), Field(gt=0), WithJsonSchema(
    {"type": "string", "pattern": r"^[0-9]{1,15} *([kMGT]|[KMGT]i)$"})]


class Strict(BaseModel):
    """Frozen; unknown keys are errors."""

    # Built at the first use, when every model inside is built along; else each would be built several times at import.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True,
                              defer_build=True)


def defaults(model: type[Model]) -> Model:
    """A model that says nothing, as the default of a key. Made without validating, for which pydantic would build a
    validator of this model alone: that takes longer than everything else that an import does."""
    return model.model_construct()
