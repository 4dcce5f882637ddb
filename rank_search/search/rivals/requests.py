"""Requests for the rivals outside the space, one after another, as soon as each can be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.core.candidate import Candidate
from rank_search.core.rivals import truncated_to
from rank_search.search.rivals.truncations import truncate_to_budget, truncate_to_energy
from rank_search.study.record import TrialRequest

if TYPE_CHECKING:
    from rank_search.core.ranks import RankMap
    from rank_search.core.rivals import Rival, Rivals
    from rank_search.study.record import TrialRecord

Spectrum = Mapping[str, Sequence[float]]  # module → singular values of an adapter's change, descending
SpectrumOf = Callable[[int], Spectrum]  # of a trial's adapter, by the trial's number


@dataclass(frozen=True)
class RivalRequests:
    """Requests for the rivals of one study.

    Attributes:
        rivals: those that the study wants.
        spectrum: of a trial's adapter.
    """

    rivals: Rivals
    spectrum: SpectrumOf

    def missing(self, trials: Sequence[TrialRecord]) -> list[Rival]:
        """The rivals that no trial has started, and that may still come.

        Where the large training failed there is nothing to truncate.
        """
        started, large = {trial.rival for trial in trials}, self.rivals.large
        failed = any(trial.rival == large and trial.state == TrialState.FAIL for trial in trials)
        impossible = self.rivals.truncations if failed else ()
        return [rival for rival in self.rivals.all if rival not in started and rival not in impossible]

    def next(self, trials: Sequence[TrialRecord]) -> TrialRequest | None:
        """The first that is missing and can be made now; truncations wait for the large training."""
        large = self.large_trial(trials)
        for rival in self.missing(trials):
            if rival.recipe == "truncate":
                if large is not None:
                    return self._truncation(rival, large)
            else:
                uniform = self.rivals.space.uniform(rival.rank or 0)
                return TrialRequest(Candidate(uniform, recipe=rival.recipe), rival.kind, rival)
        return None

    def at_budget(self, budget: int, trials: Sequence[TrialRecord]) -> TrialRequest | None:
        """The truncation to a budget; None where there is one, or where there can't be."""
        large, rival = self.large_trial(trials), truncated_to(budget)
        wanted = "svd" in self.rivals.names and budget >= self.rivals.smallest_budget
        if not wanted or large is None or rival in {trial.rival for trial in trials}:
            return None
        return self._truncation(rival, large)

    def large_trial(self, trials: Sequence[TrialRecord]) -> int | None:
        """Number of the finished large training, if there is one."""
        large = self.rivals.large
        return next((trial.number for trial in trials if trial.is_complete and trial.rival == large), None)

    def _truncation(self, rival: Rival, source: int) -> TrialRequest:
        candidate = Candidate(self._truncated_map(rival, source), recipe="truncate", source=source)
        return TrialRequest(candidate, rival.kind, rival)

    def _truncated_map(self, rival: Rival, source: int) -> RankMap:
        spectrum, shapes = self.spectrum(source), self.rivals.space.shapes
        if rival.budget is not None:
            return truncate_to_budget(spectrum, shapes, rival.budget)
        return truncate_to_energy(spectrum, shapes, rival.energy or 0.0)
