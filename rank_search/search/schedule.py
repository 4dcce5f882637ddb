"""What a study trains beside its sampler's proposals: baselines before them, and repeats after them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from rank_search.core.batch_order import ROUND
from rank_search.search.nested import CONFIRM, SCORE, TELLING
from rank_search.search.proposals.samplers import proposals
from rank_search.search.rivals.rivals import NAME, UNIFORM, Baselines
from rank_search.search.rivals.truncations import cut_path, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna.trial import FrozenTrial

    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.search.nested import NestedSearch

SEARCH = "search"
_STARTS = 4  # maps cut out of the large adapter, from which the search starts
_ONE_ROUND = 8  # repeats below which all that are left are one round


@dataclass(frozen=True)
class Planned:
    """A trial to come.

    Attributes:
        proposal: its point of the space; empty for a baseline outside it.
        attributes: what the trial is to keep.
    """

    proposal: Mapping[str, float]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The plan of one study.

    Attributes:
        nested: whose candidates are fine-tuned, if there is one.
        prior: a map to try after the uniform ones, if there is one.
        spectrum: trial number → singular values of its adapter, by module.
        front_probability: number of each finished trial in the space → how likely its map stands on the front.
        chosen_price: parameters of the map that the default rule chooses; None where nothing has a score.
    """

    config: StudyConfig
    space: Space
    spectrum: Callable[[int], Mapping[str, Sequence[float]]]
    front_probability: Callable[[], Mapping[int, float]]
    chosen_price: Callable[[], int | None]
    nested: NestedSearch | None = None
    prior: RankMap | None = None
    _cuts: dict[int, list[RankMap]] = field(default_factory=dict)  # out of the large adapter, by its trial

    def is_done(self, known: Sequence[FrozenTrial]) -> bool:
        """Whether no trial is left to begin."""
        waiting = any(trial.state == TrialState.WAITING for trial in known)
        missing = self.baselines.missing(known) or self.wants_proposal(known)
        return not (waiting or missing or self.repeats(known) or self.last(known))

    def wants_proposal(self, known: Sequence[FrozenTrial]) -> bool:
        """Whether another map is to be tried: within the budget, and with a map left to try."""
        first = self._first_trainings(known)
        left = len(first) < self.space.size or len(proposals(first)) < self.space.size
        return left and len(first) < self.config.search.maps

    def first(self, known: Sequence[FrozenTrial]) -> Planned | None:
        """The next trial that comes before the sampler's proposals.

        Uniform maps in order of their rank, with as many candidates of a nested search before them; the prior; the
        baselines outside the space; maps cut out of the large adapter, to start from; then all other nested candidates
        that are not the sampler's to pick.
        """
        room = self.wants_proposal(known)
        uniform = [self.space.uniform(rank) for rank in self.space.ladder]
        given = [(ranks, UNIFORM) for ranks in uniform] + ([(self.prior, SEARCH)] if self.prior else [])
        left = ((ranks, kind) for ranks, kind in given if not self._is_begun(ranks, known))
        begins = room and len(self._first_trainings(known)) < len(uniform)
        if begins and (candidate := self._candidate(known)) is not None:
            return self._planned(candidate, UNIFORM if candidate in uniform else CONFIRM)
        if room and (next_ := next(left, None)) is not None:
            return self._planned(*next_)
        if (baseline := self.baselines.next(known, self.spectrum)) is not None:
            return Planned({}, baseline.attributes)
        starts = (ranks for ranks in self._starts(known) if not self._is_begun(ranks, known))
        if room and (start := next(starts, None)) is not None:
            return self._planned(start, SEARCH)
        if room and (candidate := self._candidate(known)) is not None:
            return self._planned(candidate, CONFIRM)
        return None

    def repeats(self, known: Sequence[FrozenTrial]) -> list[Planned]:
        """The next round of repeats: the maps whose place on the front is least certain, on batches of their own.

        All maps of a round share its batches, as those of the first trainings do, so that what an order of batches
        adds to a score is the same for all of them. A last single repeat joins the round before it. Empty while a
        round is trained, and when all are.
        """
        repeated = [trial for trial in known if trial.user_attrs.get(ROUND)]
        left = self.config.search.repeats_planned - len(repeated)
        if left <= 0 or any(trial.state == TrialState.RUNNING for trial in repeated):
            return []
        last = max((trial.user_attrs[ROUND] for trial in repeated), default=0)
        number = last if left == 1 else last + 1
        in_round = [trial.params for trial in repeated if trial.user_attrs[ROUND] == number]
        probability = self.front_probability()
        trained = [trial for trial in self._first_trainings(known) if self._price(trial)]
        first = {of.number: of for of in trained if of.number in probability and of.params not in in_round}
        by_doubt = sorted(first, key=lambda number: (abs(probability[number] - 0.5), number))
        picked = by_doubt[: left if left < _ONE_ROUND else left // 2]
        if len(in_round) + len(picked) < 2:  # an order of batches that one map alone has seen says nothing
            return []
        kinds = {trial: first[trial].user_attrs.get("kind", SEARCH) for trial in picked}
        return [Planned(first[trial].params, {"kind": kinds[trial], ROUND: number}) for trial in picked]

    def last(self, known: Sequence[FrozenTrial]) -> list[Planned]:
        """When all maps are trained: the truncation of the large adapter to the price of the chosen map."""
        if any(trial.state == TrialState.RUNNING for trial in known) or (price := self.chosen_price()) is None:
            return []
        baseline = self.baselines.at_price(price, known, self.spectrum)
        return [Planned({}, baseline.attributes)] if baseline else []

    @property
    def baselines(self) -> Baselines:
        """Those outside the space."""
        return Baselines(self.space, self.config.search.baselines)

    def _planned(self, ranks: RankMap, kind: str) -> Planned:
        attributes: dict[str, Any] = {"kind": kind}
        if self.nested is not None and (score := self.nested.score_of(ranks)) is not None:
            attributes[SCORE] = score
        return Planned(self.space.proposal(ranks), attributes)

    def _candidate(self, known: Sequence[FrozenTrial]) -> RankMap | None:
        """The next map that nested scores alone pick.

        A sampler that starts from nested scores, and learns how far to believe them, does better than they alone; it
        leaves them the first few, whose agreement is reported. Maps that start warm are not compared with others.
        """
        of = self.config.search
        if self.nested is None:
            return None
        first = [trial for trial in self._first_trainings(known) if trial.state != TrialState.FAIL]
        begun = sum(trial.user_attrs.get("kind") == CONFIRM for trial in first)
        if of.sampler == "nehvi" and of.nested.confirm == "scratch" and begun >= TELLING:
            return None
        return self.nested.candidate(known)

    def _is_begun(self, ranks: RankMap, known: Sequence[FrozenTrial]) -> bool:
        wanted = self.space.proposal(ranks)
        # What another driver has just begun may be drawn in a moment; Optuna keeps there what was enqueued.
        drawn = (trial.system_attrs.get("fixed_params", trial.params) for trial in known)
        return any(all(of.get(name) == wanted[name] for name in self.space.dimensions) for of in drawn)

    def _starts(self, known: Sequence[FrozenTrial]) -> list[RankMap]:
        """Maps of the space cut out of the large adapter; a nested search has its own."""
        large = self.baselines.large_trial(known) if "svd" in self.config.search.baselines else None
        if large is None or self.nested is not None:
            return []
        if large not in self._cuts:
            energies = {name: [sigma**2 for sigma in sigmas] for name, sigmas in self.spectrum(large).items()}
            self._cuts[large] = spread(cut_path(energies, self.space), self.space, _STARTS)
        return self._cuts[large]

    def _price(self, trial: FrozenTrial) -> int:
        """Parameters of a trial's map; the untrained model has none, and scores the same each time."""
        return self.space.parameters(self.space.rank_map(trial.params)) if trial.params else 0

    @staticmethod
    def _first_trainings(known: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        begun = (trial for trial in known if trial.state != TrialState.WAITING)
        return [trial for trial in begun if NAME not in trial.user_attrs and not trial.user_attrs.get(ROUND)]
