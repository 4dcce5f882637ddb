"""The schedule: what a study trains beside its sampler's proposals, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.core.rivals import FAMILY, RETRAINED, SEARCH, UNIFORM, Rivals
from rank_search.search.repeats import Repeats
from rank_search.search.rivals.families import families
from rank_search.search.rivals.requests import RivalRequests
from rank_search.search.rivals.truncations import spread, truncation_path
from rank_search.study.record import TrialRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.rivals import Kind
    from rank_search.core.space import Space
    from rank_search.search.rivals.requests import Spectrum, SpectrumOf
    from rank_search.study.record import TrialRecord

_STARTS = 4  # truncations of the large adapter from which the search starts


@dataclass(frozen=True)
class Findings:
    """What the analysis says of a study as it is, asked for when it is needed.

    Attributes:
        front_probability: number of each finished trial in the space → how likely its map is on the front.
        contested: pairs of maps, by their numbers, whose comparison decides what is chosen; the most urgent first.
        chosen_parameters: of the map that the study's rule chooses; None where nothing has a score, or the choice is a
            truncation itself.
        budget: parameters that a map may have at most that is still to be proposed; None for no bound.
    """

    front_probability: Callable[[], Mapping[int, float]]
    contested: Callable[[], Sequence[tuple[int, int]]]
    chosen_parameters: Callable[[], int | None]
    budget: Callable[[], int | None]


@dataclass(frozen=True)
class Schedule:
    """The schedule of one study.

    Attributes:
        spectrum: of a trial's adapter.
        findings: what the analysis says of the study as it is.
        prior: a map to try after the uniform ones, if there is one.
        has_head: a head is trained with every map.
    """

    config: StudyConfig
    space: Space
    spectrum: SpectrumOf
    findings: Findings
    prior: RankMap | None = None
    has_head: bool = False
    _starts_by_trial: dict[int, list[RankMap]] = field(default_factory=dict)  # by number of the large training

    def is_done(self, trials: Sequence[TrialRecord]) -> bool:
        """Whether no trial is left to start."""
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        missing = self.rivals.missing(trials) or self.wants_proposal(trials)
        return not (waiting or missing or self.repeats.next_round(trials) or self.last(trials))

    def wants_proposal(self, trials: Sequence[TrialRecord]) -> bool:
        """Whether another map is to be tried: within the budget of trials, and with a map left to try."""
        first = self._first_trainings(trials)
        distinct = {frozenset(trial.proposal.items()) for trial in first}
        left = len(first) < self.space.size or len(distinct) < self.space.size
        return left and len(first) < self.config.search.maps

    def next(self, trials: Sequence[TrialRecord]) -> list[TrialRequest]:
        """What to train now; empty where the sampler is to propose, or nothing is left.

        Repeats, and the truncation at the size of the choice, come when there is nothing else to train.
        """
        if (first := self.first(trials)) is not None:
            return [first]
        if self.wants_proposal(trials):
            return []
        return self.repeats.next_round(trials) or self.last(trials)

    def first(self, trials: Sequence[TrialRecord]) -> TrialRequest | None:
        """The next trial that comes before the sampler's proposals.

        Uniform maps in order of their rank; the prior; the rivals outside the space; then maps to start from: ranks of
        truncations of the large adapter, and families of modules.
        """
        room = self.wants_proposal(trials)
        uniform = [self.space.uniform(rank) for rank in self.space.ladder]
        planned: list[tuple[RankMap, Kind]] = [(rank_map, UNIFORM) for rank_map in uniform]
        planned += [(self.prior, SEARCH)] if self.prior else []
        left = ((rank_map, kind) for rank_map, kind in planned if not self._is_started(rank_map, trials))
        if room and (pair := next(left, None)) is not None:
            return self._request(*pair)
        if (rival := self.rivals.next(trials)) is not None:
            return rival
        starts = (start for start in self._starts(trials) if not self._is_started(start[0], trials))
        if room and (start := next(starts, None)) is not None:
            return self._request(*start)
        return None

    def last(self, trials: Sequence[TrialRecord]) -> list[TrialRequest]:
        """When all maps are trained: the truncation of the large adapter to the size of the chosen map."""
        if any(trial.state == TrialState.RUNNING for trial in trials):
            return []
        if (budget := self.findings.chosen_parameters()) is None:
            return []
        request = self.rivals.at_budget(budget, trials)
        return [request] if request else []

    @cached_property
    def rivals(self) -> RivalRequests:
        """The rivals outside the space."""
        return RivalRequests(Rivals(self.space, self.config.search.baselines), self.spectrum)

    @cached_property
    def repeats(self) -> Repeats:
        """The repeats."""
        return Repeats(self.config.search.repeats_planned, self.findings.contested, self.has_head)

    def _request(self, rank_map: RankMap, kind: Kind) -> TrialRequest:
        """A trial in the space, at the study file's own settings."""
        return TrialRequest(self.space.candidate(self.space.proposal(rank_map)), kind)

    def _is_started(self, rank_map: RankMap, trials: Sequence[TrialRecord]) -> bool:
        wanted = self.space.proposal(rank_map)
        return any(all(trial.proposal.get(name) == wanted[name] for name in self.space.dimensions) for trial in trials)

    def _starts(self, trials: Sequence[TrialRecord]) -> list[tuple[RankMap, Kind]]:
        """Maps to start from: ranks of truncations of the large adapter, and families of modules."""
        budget = self.findings.budget()
        starts = [(rank_map, RETRAINED) for rank_map in self._truncations(trials, budget)]
        starts += [(rank_map, FAMILY) for rank_map in families(self.space)]
        return [start for start in starts if budget is None or self.space.parameters(start[0]) <= budget]

    def energies(self, trials: Sequence[TrialRecord]) -> Spectrum | None:
        """Module → σ² of each component of the large adapter; None where there is none."""
        large = self.rivals.large_trial(trials) if "svd" in self.config.search.baselines else None
        if large is None:
            return None
        return {name: [sigma**2 for sigma in sigmas] for name, sigmas in self.spectrum(large).items()}

    def _truncations(self, trials: Sequence[TrialRecord], budget: int | None) -> list[RankMap]:
        """Truncations of the large adapter that are maps of the space."""
        large = self.rivals.large_trial(trials) if "svd" in self.config.search.baselines else None
        if large is None:
            return []
        if large not in self._starts_by_trial:
            path = truncation_path(self.energies(trials) or {}, self.space)
            within = [rank_map for rank_map in path if budget is None or self.space.parameters(rank_map) <= budget]
            self._starts_by_trial[large] = spread(within, self.space, _STARTS)
        return self._starts_by_trial[large]

    @staticmethod
    def _first_trainings(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Trials that train a map of the space for the first time, in any state."""
        started = (trial for trial in trials if trial.state != TrialState.WAITING)
        return [trial for trial in started if trial.in_space and not trial.attributes.batch_order]
