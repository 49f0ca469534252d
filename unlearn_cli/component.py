"""What every configurable part is made of: a frozen dataclass whose fields are checked at construction.

A component is a class under `@component`; its fields are its hyperparameters, one line each, and the same
names stand in its yaml. Types are strict (no "60" for 60, no true for 1), unknown fields are refused, and
all wrong fields are reported together. From Python the same class is called directly: `NPO(beta=2.0)`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic
from pydantic import Field

STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]  # at least one
Natural = Annotated[int, Field(ge=0)]  # zero allowed
Said = Annotated[str, Field(pattern=r"\S")]  # more than blanks

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def component(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only, strictly checked dataclass."""
    made: Any = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=STRICT)
    return made
