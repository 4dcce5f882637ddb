"""The base class of all sections of the study file, and the number types of their fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is not a number; write a number")
    return value


PositiveInt = Annotated[StrictInt, Field(gt=0)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]
# pydantic converts text to a number, because YAML 1.1 reads 2e-3, without a decimal point, as text.
Number = Annotated[float, BeforeValidator(_no_bool)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the study file; it is frozen and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
