"""The base of every section of the study file, and the kinds of numbers that its fields hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is no number; write one")
    return value


PositiveInt = Annotated[StrictInt, Field(gt=0)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]
# Text is let through to pydantic: YAML 1.1 reads 2e-3, without a point, as text.
Number = Annotated[float, BeforeValidator(_no_bool)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the study file: frozen, and refusing keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
