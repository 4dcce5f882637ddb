"""What a study keeps about itself: the settings, space, data and model that all its trials share.

It is one JSON attribute of the Optuna study, written in one commit, so it is there whole or not at all,
and wherever the study's storage goes the record goes too.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rank_search.errors import InputError
from rank_search.ranks import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from rank_search.ranks import RankMap

_ATTRIBUTE = "rank_search"
_PACKAGES = ("rank_search", "torch", "transformers", "peft", "sentence-transformers", "optuna")


@dataclass(frozen=True)
class StudyRecord:
    """The facts that every trial of a study shares.

    Attributes:
        identity: a random name of this very study, so that files of another are told apart from its own.
        config: the frozen settings (`StudyConfig.frozen`).
        shapes: adaptable module → (in, out), in the model's order.
        dimensions: search dimension → its modules.
        ladder: the ranks that an index stands for.
        fan_in_fan_out: the modules are GPT-2 ``Conv1D``, which PEFT must be told.
        data_fingerprint: changes with any text or split.
        model_fingerprint: changes with the base model's weights.
        environment: machine and versions that the study was begun on.
    """

    identity: str
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    dimensions: Mapping[str, tuple[str, ...]]
    ladder: tuple[int, ...]
    fan_in_fan_out: bool
    data_fingerprint: str
    model_fingerprint: str
    environment: Mapping[str, Any]

    def ranks(self, proposal: Mapping[str, int]) -> dict[str, int]:
        """Module → rank of a proposal, zeros included, in the model's order."""
        of_module = {module: self.ladder[index] for name, index in proposal.items() for module in self.dimensions[name]}
        return {module: of_module[module] for module in self.shapes}

    @property
    def space_size(self) -> int:
        """How many maps the study can propose."""
        size: int = len(self.ladder) ** len(self.dimensions)
        return size

    @property
    def most_parameters(self) -> int:
        """Trainable parameters of the largest map."""
        return self.ladder[-1] * sum(sum(shape) for shape in self.shapes.values())

    def parameters(self, rank_map: RankMap) -> int:
        """Trainable parameters of a map's adapters."""
        return rank_map.trainable_parameters(self.shapes)

    def write(self, study: Study) -> None:
        """Keeps this record in the study."""
        study.set_user_attr(_ATTRIBUTE, asdict(self))

    @classmethod
    def read(cls, study: Study) -> StudyRecord | None:
        """The study's record; None when the study was made but never begun."""
        stored = study.user_attrs.get(_ATTRIBUTE)
        if stored is None:
            return None
        return cls(
            identity=stored["identity"],
            config=stored["config"],
            shapes={name: Shape(*shape) for name, shape in stored["shapes"].items()},
            dimensions={name: tuple(modules) for name, modules in stored["dimensions"].items()},
            ladder=tuple(stored["ladder"]),
            fan_in_fan_out=stored["fan_in_fan_out"],
            data_fingerprint=stored["data_fingerprint"],
            model_fingerprint=stored["model_fingerprint"],
            environment=stored["environment"],
        )


def environment(device: str) -> dict[str, Any]:
    """The machine and the versions in use, for the record."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "cpus": os.cpu_count(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def refuse_change(kept: Any, given: Any, field: str = "") -> None:
    """Checks that two settings are the same.

    Raises:
        InputError: naming the first field that differs.
    """
    if isinstance(kept, dict) and isinstance(given, dict):
        for name in {**kept, **given}:
            refuse_change(kept.get(name), given.get(name), f"{field}.{name}" if field else name)
    elif kept != given:
        raise InputError(
            f"is {given!r}, but the study was begun with {kept!r}; restore it, or give the study another name",
            field=field,
        )
