"""What every model of a file that a person writes shares: unknown keys are errors, and sizes have units."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vmtool.quantity import parse_size

Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]


class Strict(BaseModel):
    """Frozen; unknown keys are errors."""

    # Built at the first use, when every model inside is built along; else each would be built several times at import.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True,
                              defer_build=True)
