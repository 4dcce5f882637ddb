"""The two files of PEFT's format, as programs other than PEFT read them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from peft import LoraConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
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

# What an export, or PEFT when it saves the adapter again, sets as the model needs it.
_FREE = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "fan_in_fan_out",
        "inference_mode",
        "lora_dropout",
        "peft_version",
        "revision",
        "task_type",
    }
)
_Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Value = TypeVar("_Value", int, float)


class AdapterSettings(BaseModel):
    """What consumers read in ``adapter_config.json``."""

    model_config = ConfigDict(frozen=True, strict=True)

    r: PositiveInt
    lora_alpha: _Alpha
    target_modules: list[str] | str
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[str, _Alpha] = Field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    exclude_modules: str | list[str] | None = None

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _names(cls, pattern: dict[str, float]) -> dict[str, float]:
        """PEFT reads the keys as regular expressions; any other than a name may take for ever to match."""
        for key in pattern:
            if _literal(key.removeprefix("^")) is None:
                raise ValueError(f"{key!r} is not the name of a module as a regular expression")
        return pattern

    @field_validator("target_modules")
    @classmethod
    def _listed(cls, targets: list[str] | str) -> list[str] | str:
        if isinstance(targets, str) and targets != DUMMY_TARGET_MODULES:
            raise ValueError("it is a regular expression, and an export lists modules")
        return targets

    @field_validator("exclude_modules")
    @classmethod
    def _alternatives(cls, excluded: str | list[str] | None) -> str | list[str] | None:
        if isinstance(excluded, str):
            parts = re.findall(r"(?:\\.|[^\\|])+", excluded, re.DOTALL)
            if "|".join(parts) != excluded or any(_literal(part) is None for part in parts):
                raise ValueError("it is no list of names of modules as a regular expression")
        return excluded

    @classmethod
    def read(cls, folder: Path) -> AdapterSettings:
        """Reads them from a folder.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = folder / "adapter_config.json"
        try:
            content = path.read_bytes()
            settings = cls.model_validate_json(content)
            _check_others(json.loads(content))
        except OSError as error:
            raise InputError(f"is missing ({error.strerror}); export again", file=str(path)) from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or None
            raise InputError(f"is damaged ({first['msg']}); export again", file=str(path), field=field) from None
        except ValueError as error:
            raise InputError(f"is damaged ({error}); export again", file=str(path)) from None
        return settings

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
            files = cls(settings, load_file(weights), tuple(modules))
        except (OSError, SafetensorError) as error:
            raise InputError(f"is damaged or missing ({error}); export again", file=str(weights)) from None
        files.check(folder / "adapter_config.json")
        return files

    def check(self, file: Path) -> None:
        """Checks the settings against the tensors: PEFT makes room for what the settings say.

        Args:
            file: the settings' file.

        Raises:
            InputError: a rank is above those of the tensors, or a pattern names a module without tensors.
        """
        top = max((len(a) for a, _ in self.factors.values()), default=None)
        if top is not None and self.settings.r > top:
            raise InputError(
                f"is {self.settings.r}, above all ranks of the tensors; export again", file=str(file), field="r"
            )
        if self.settings.top_rank > self.settings.r:
            raise InputError(
                f"has rank {self.settings.top_rank}, above r; export again", file=str(file), field="rank_pattern"
            )
        for field in ("rank_pattern", "alpha_pattern"):
            for key in getattr(self.settings, field):
                if _literal(key.removeprefix("^")) not in self.factors:
                    raise InputError(
                        f"{key!r} names a module without tensors; export again", file=str(file), field=field
                    )

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


def _literal(pattern: str) -> str | None:
    """The text that a regular expression matches, if it matches no other; None otherwise."""
    text = re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)
    return text if re.escape(text) == pattern else None


def _check_others(content: dict[str, Any]) -> None:
    """Checks that the settings which no export sets have PEFT's defaults; some of them import packages.

    Raises:
        ValueError: one has not.
    """
    defaults = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    for name in defaults.keys() & content.keys() - AdapterSettings.model_fields.keys() - _FREE:
        if content[name] != json.loads(json.dumps(defaults[name], default=str)):
            raise ValueError(f"{name} is {content[name]!r:.60}, which no export writes")


def _first_match(pattern: Mapping[str, _Value], module: str) -> _Value | None:
    """The value of the first key that matches a module, by PEFT's rule; None where no key does."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), None)
