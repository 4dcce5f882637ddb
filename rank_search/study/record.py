"""The record of a trial: the one schema of what a study keeps of each trial, written and read here alone.

Optuna keeps a trial's state, its parameters and its two values. All else are attributes of the trial, one for each
field of `TrialAttributes`, so that optuna-dashboard and others show them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from pydantic import BaseModel, ConfigDict

from rank_search.core.candidate import Candidate, Recipe
from rank_search.core.errors import FailureKind
from rank_search.core.ranks import RankMap
from rank_search.core.rivals import SEARCH, Kind, Rival
from rank_search.study.optuna_compat import stored

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from rank_search.core.space import Space


class TrialAttributes(BaseModel):
    """What is kept of a trial as attributes.

    What was asked for, written when the trial is started:

    Attributes:
        kind: why it is trained.
        recipe: how its adapter comes about.
        requested_ranks: module → rank to train at, of a rival outside the space; the map of others is their proposal.
        source: number of the trial whose adapter is truncated.
        budget: trainable parameters that a truncation may have at most.
        energy: share of each module's Σσ² that a truncation keeps.
        batch_order: the order of batches it is trained on; 0 for a map's first training, then the round of repeats.
        nested_score: what the nested search scored for its map.

    What came of it, written before Optuna records its end:

        ranks: module → rank that the recipe set; None where it is the requested one.
        seed: of its adapter.
        seconds: of training and evaluation, a pack's shared out.
        score_se: standard error of the score over examples.
        metrics: metric → mean over examples.
        rungs: steps → score there, where it was looked at on its way.
        failure: what sort of failure it was.
        reason: why it failed.

    Who is at work on it:

        attempts: how often a process has started it, or has died at it.
        lease: who holds it; see `rank_search.study.leases`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Kind = SEARCH
    recipe: Recipe = "scratch"
    requested_ranks: Mapping[str, int] | None = None
    source: int | None = None
    budget: int | None = None
    energy: float | None = None
    batch_order: int = 0
    nested_score: float | None = None

    ranks: Mapping[str, int] | None = None
    seed: int | None = None
    seconds: float | None = None
    score_se: float | None = None
    metrics: Mapping[str, float] = {}
    rungs: Mapping[int, float] = {}
    failure: FailureKind | None = None
    reason: str | None = None

    attempts: int = 0
    lease: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, trial: Trial | FrozenTrial) -> TrialAttributes:
        """The attributes of a trial as it was when it was read."""
        return cls.model_validate(trial.user_attrs)


def keep(trial: Trial, **attributes: Any) -> None:
    """Writes attributes of a running trial.

    Raises:
        KeyError: `TrialAttributes` has no such field.
    """
    for name, value in attributes.items():
        if name not in TrialAttributes.model_fields:
            raise KeyError(name)
        trial.set_user_attr(name, value)


@dataclass(frozen=True)
class TrialRequest:
    """A trial to come.

    Attributes:
        candidate: what to train.
        kind: why.
        rival: the rival outside the space that it is; None where the candidate is in the space.
        batch_order: 0 for a map's first training, else the round of repeats.
        nested_score: what the nested search scored for the map, if it did.
    """

    candidate: Candidate
    kind: Kind
    rival: Rival | None = None
    batch_order: int = 0
    nested_score: float | None = None

    def proposal(self, space: Space) -> dict[str, float]:
        """Its point of the space; empty outside it."""
        return {} if self.rival else space.proposal(self.candidate.rank_map, self.candidate.settings)

    @property
    def attributes(self) -> dict[str, Any]:
        """What its trial keeps from the start."""
        content: dict[str, Any] = {"kind": self.kind, "recipe": self.candidate.recipe}
        if self.rival is not None:
            content |= {"requested_ranks": dict(self.candidate.rank_map.ranks), "source": self.candidate.source}
            content |= {"budget": self.rival.budget, "energy": self.rival.energy}
        if self.batch_order:
            content["batch_order"] = self.batch_order
        if self.nested_score is not None:
            content["nested_score"] = self.nested_score
        return content


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study, as far as it has come.

    Attributes:
        number: its number in the study.
        state: Optuna's state.
        proposal: its point of the space, as far as it is drawn; empty outside the space.
        candidate: what it trains; None while its proposal is not drawn.
        attributes: what is kept of it beside that.
        score: mean of the metric on the validation split; None unless it is complete.
        started: when.
        finished: when.
    """

    number: int
    state: TrialState
    proposal: Mapping[str, float]
    candidate: Candidate | None
    attributes: TrialAttributes = field(default_factory=TrialAttributes)
    score: float | None = None
    started: datetime | None = None
    finished: datetime | None = None

    @classmethod
    def read(cls, trial: FrozenTrial, space: Space) -> TrialRecord:
        """The record of a trial that Optuna keeps."""
        attributes = TrialAttributes.read(trial)
        # What is enqueued is kept there by Optuna until it is drawn.
        proposal = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        return cls(
            number=trial.number,
            state=trial.state,
            proposal=proposal,
            candidate=_candidate(attributes, proposal, space),
            attributes=attributes,
            score=trial.values[0] if trial.state == TrialState.COMPLETE else None,
            started=trial.datetime_start,
            finished=trial.datetime_complete,
        )

    @property
    def in_space(self) -> bool:
        """Whether it trains a map of the space, and so is no rival outside it."""
        return self.attributes.requested_ranks is None

    @property
    def is_complete(self) -> bool:
        """Whether it has a score."""
        return self.state == TrialState.COMPLETE

    @property
    def rank_map(self) -> RankMap | None:
        """The ranks of its adapter: those that its recipe set, else the requested ones."""
        if self.attributes.ranks is not None:
            return RankMap(self.attributes.ranks)
        return self.candidate.rank_map if self.candidate else None

    @property
    def rival(self) -> Rival | None:
        """The rival that it is, if it is one outside the space."""
        attributes = self.attributes
        if attributes.requested_ranks is None:
            return None
        truncated = attributes.recipe == "truncate"
        rank = None if truncated else max(attributes.requested_ranks.values())
        return Rival(attributes.kind, attributes.recipe, rank, attributes.budget, attributes.energy)

    @property
    def label(self) -> str:
        """What it is, in words."""
        return self.rival.label if self.rival else f"trial {self.number}"


def read_now(trial: Trial, space: Space) -> TrialRecord:
    """The record of a trial as it is in the storage now."""
    return TrialRecord.read(stored(trial), space)


def _candidate(attributes: TrialAttributes, proposal: Mapping[str, float], space: Space) -> Candidate | None:
    if attributes.requested_ranks is not None:
        return Candidate(RankMap(attributes.requested_ranks), {}, attributes.recipe, attributes.source)
    if not space.dimensions.keys() | space.joint.keys() <= proposal.keys():
        return None
    return Candidate(space.rank_map(proposal), space.settings(proposal), attributes.recipe)
