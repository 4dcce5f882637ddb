"""What a study keeps about itself: the settings, space, data and model that all its trials share.

It is one JSON attribute of the Optuna study, written in one commit, so it is there whole or not at all,
and wherever the study's storage goes the record goes too.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError
from rank_search.core.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

ATTRIBUTE = "rank_search"
_PACKAGES = ("rank_search", "torch", "transformers", "peft", "sentence-transformers", "optuna", "botorch", "gpytorch")


@dataclass(frozen=True)
class StudyRecord:
    """The facts that every trial of a study shares.

    Attributes:
        identity: a random name of this very study, so that files of another are told apart from its own.
        config: the frozen settings (`StudyConfig.frozen`).
        space: what is searched.
        head: modules that every trial trains whole.
        head_parameters: how many parameters they have; they are not counted among the adapters'.
        classes: names of the classes in the order of their numbers; empty where the task has none.
        cut: kind of text → how many were cut, being longer than the model takes, of how many.
        data_fingerprint: changes with any text or split.
        model_fingerprint: changes with the base model's weights.
        environment: machine and versions that the study was begun on.
    """

    identity: str
    config: Mapping[str, Any]
    space: Space
    head: tuple[str, ...]
    head_parameters: int
    classes: tuple[str, ...]
    cut: Mapping[str, tuple[int, int]]
    data_fingerprint: str
    model_fingerprint: str
    environment: Mapping[str, Any]

    def write(self, study: Study) -> None:
        """Keeps this record in the study."""
        study.set_user_attr(ATTRIBUTE, asdict(self))

    @classmethod
    def read(cls, study: Study) -> StudyRecord | None:
        """The study's record; None when the study was made but never begun.

        Raises:
            InputError: another version of this package wrote it.
        """
        stored = study.user_attrs.get(ATTRIBUTE)
        if stored is None:
            return None
        try:
            return cls(
                **{
                    **{field.name: stored[field.name] for field in fields(cls)},
                    "space": Space.from_json(stored["space"]),
                    "head": tuple(stored["head"]),
                    "classes": tuple(stored["classes"]),
                    "cut": {kind: tuple(counts) for kind, counts in stored["cut"].items()},
                }
            )
        except KeyError:
            versions = stored.get("environment", {}).get("versions", {})
            raise InputError(
                f"the study {study.study_name!r} was begun with rank_search {versions.get('rank_search', '?')} in an "
                "older form; use that version for it, or begin a study of another name",
                field="STUDY",
            ) from None


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
