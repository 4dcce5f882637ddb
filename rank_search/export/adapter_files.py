"""The two files of PEFT's format, as programs other than PEFT read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from rank_search.adapters import head_weights, lora_factors, lora_scale
from rank_search.core.errors import InputError
from rank_search.export.updates import AppliedUpdates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

_Value = TypeVar("_Value", int, float)


class AdapterSettings(BaseModel):
    """What consumers read in ``adapter_config.json``."""

    model_config = ConfigDict(frozen=True, strict=True)

    r: PositiveInt
    lora_alpha: PositiveFloat
    target_modules: list[str] | str
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[str, PositiveFloat] = Field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _regular_expressions(cls, pattern: dict[str, float]) -> dict[str, float]:
        for key in pattern:
            try:
                re.compile(key)
            except re.error as error:
                raise ValueError(f"{key!r} is no regular expression ({error})") from None
        return pattern

    @classmethod
    def read(cls, folder: Path) -> AdapterSettings:
        """Reads them from a folder.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = folder / "adapter_config.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"is missing ({error.strerror}); export again", file=str(path)) from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or None
            raise InputError(f"is damaged ({first['msg']}); export again", file=str(path), field=field) from None

    @property
    def top_rank(self) -> int:
        """The highest rank of any module."""
        return max([self.r, *self.rank_pattern.values()])


@dataclass(frozen=True)
class AdapterFiles:
    """The settings and tensors of an adapter, and the names of the base model's linear layers in its order."""

    settings: AdapterSettings
    tensors: dict[str, Tensor]
    modules: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, modules: Iterable[str]) -> AdapterFiles:
        """Reads the two files.

        Raises:
            InputError: one is missing or damaged.
        """
        settings, weights = AdapterSettings.read(folder), folder / "adapter_model.safetensors"
        try:
            return cls(settings, load_file(weights), tuple(modules))
        except (OSError, SafetensorError) as error:
            raise InputError(f"is damaged or missing ({error}); export again", file=str(weights)) from None

    @property
    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By module: A ``[r, in]`` and B ``[out, r]``."""
        return lora_factors(self.tensors)

    @property
    def whole(self) -> dict[str, Tensor]:
        """Parameters of the modules that were trained whole."""
        return head_weights(self.tensors)

    def scale(self, rank: int, alpha: float | None = None, *, rank_stabilised: bool | None = None) -> float:
        """α/r or α/√r of a rank.

        Args:
            rank: r.
            alpha: α; None for the global one.
            rank_stabilised: whether it is α/√r; None for what the settings say.
        """
        alpha = self.settings.lora_alpha if alpha is None else alpha
        rank_stabilised = self.settings.use_rslora if rank_stabilised is None else rank_stabilised
        return lora_scale(alpha, rank, rank_stabilised=rank_stabilised)

    def scaled(self, scale: Callable[[str, Tensor], float]) -> AppliedUpdates:
        """Every module's update, at the scale that a rule gives for its name and its A."""
        return AppliedUpdates({name: (a, b, scale(name, a)) for name, (a, b) in self.factors.items()})

    def rank_by_pattern(self, module: str) -> int:
        """A module's rank by ``rank_pattern``, else the global one."""
        return _first_match(self.settings.rank_pattern, module) or self.settings.r

    def alpha_by_pattern(self, module: str) -> float:
        """A module's α by ``alpha_pattern``, else the global one."""
        return _first_match(self.settings.alpha_pattern, module) or self.settings.lora_alpha


def _first_match(pattern: Mapping[str, _Value], module: str) -> _Value | None:
    """The value of the first key that matches a module, by PEFT's rule; None where no key does."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), None)
