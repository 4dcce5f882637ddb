"""Nested scores: an Optuna study beside the main one, in the same storage, of what truncating the supernet scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.core.errors import InputError
from rank_search.study.storage import BESIDE, create_study

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from rank_search.study.handle import Study


@dataclass(frozen=True)
class NestedScores:
    """The nested scores of one study.

    Attributes:
        optuna_study: Optuna's handle, which asks and tells.
    """

    optuna_study: optuna.Study

    @classmethod
    def beside(cls, study: Study) -> NestedScores:
        """Those of a study, made if they are new.

        Raises:
            InputError: the storage holds another program's study of the name that these have.
        """
        scores = create_study(study.folder, study.storage, BESIDE)
        known = study.space.dimensions.keys() | study.space.joint.keys()
        if any(trial.params.keys() - known for trial in scores.get_trials(deepcopy=False)):
            raise InputError(
                f"the study {scores.study_name!r} in this storage is another program's; give this study another name, "
                "or name another --storage",
                field="STUDY",
            )
        return cls(scores)

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that have a score."""
        return self.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    @property
    def finished(self) -> int:
        """How many maps were looked at, whether they have a score or not."""
        return sum(trial.state.is_finished() for trial in self.optuna_study.get_trials(deepcopy=False))

    @property
    def cost(self) -> dict[str, float]:
        """What the nested scores have cost: ``evaluations``, ``training_seconds``, ``scoring_seconds``."""
        return {"evaluations": self.finished, **self.optuna_study.user_attrs}

    def seconds(self, name: str) -> float:
        """``training_seconds`` or ``scoring_seconds`` over all runs of the study."""
        seconds: float = self.optuna_study.user_attrs.get(name, 0.0)
        return seconds

    def keep_seconds(self, name: str, seconds: float) -> None:
        """Keeps what `seconds` is to return."""
        self.optuna_study.set_user_attr(name, seconds)
