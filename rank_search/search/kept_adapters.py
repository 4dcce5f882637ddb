"""Which trained adapters a study keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.core.rivals import LIKELY, UNIFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rank_search.config import StudyConfig
    from rank_search.study.handle import Study


@dataclass
class KeptAdapters:
    """The adapters of one study.

    Attributes:
        front_probability: number of each finished trial in the space → how likely its map is on the front.
    """

    study: Study
    config: StudyConfig
    front_probability: Callable[[], Mapping[int, float]]
    _kept: int = 0  # adapters, after others were removed last

    @property
    def is_due(self) -> bool:
        """Whether there are twice as many as were kept last: to find out takes long in a long study."""
        return len(self.study.folder.adapters()) > 2 * self._kept

    def remove_others(self) -> None:
        """Removes the adapters that no rule can choose."""
        self.study.folder.keep_adapters(self._still_needed())
        self._kept = len(self.study.folder.adapters())

    def _still_needed(self) -> set[int]:
        """Trials whose adapter is kept: whose map may be on the front, and the rivals that it is compared with.

        All of them while repeats are still to come: these measure the noise of trainings, which may put other maps on
        the front.
        """
        trials = [trial for trial in self.study.trials() if trial.is_complete]
        if self.config.search.repeats_planned and not any(trial.attributes.batch_order for trial in trials):
            return {trial.number for trial in trials}
        likely = {number for number, share in self.front_probability().items() if share >= LIKELY}
        rivals = {trial.number for trial in trials if trial.attributes.kind == UNIFORM or not trial.in_space}
        return rivals | likely
