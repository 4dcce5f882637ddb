"""The record of a trial: the one schema of what a study keeps of each trial, written and read here alone.

Optuna keeps a trial's state, its parameters and its two values. All else are attributes of the trial, one for each
field of `TrialAttributes`, so that optuna-dashboard and others show them by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from optuna.trial import TrialState
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from rank_search.core.candidate import SETS_RANKS, Candidate, Recipe
from rank_search.core.errors import FailureKind, InputError, echo
from rank_search.core.ranks import RankMap
from rank_search.core.rivals import KINDS, SEARCH, Kind, Rival
from rank_search.study.optuna_compat import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial, Trial

    from rank_search.core.space import Space


Seconds = Annotated[FiniteFloat, Field(ge=0)]
Ranks = Mapping[str, NonNegativeInt]


class _LeaseFields(BaseModel):
    """Who is at work on a trial, or on another part of a study; see `rank_search.study.leases`."""

    model_config = ConfigDict(strict=True)

    driver: str
    host: str
    pid: int
    started: float
    expires: float


def _checked_lease(lease: dict[str, Any]) -> dict[str, Any]:
    _LeaseFields.model_validate(lease)
    return lease


Lease = Annotated[dict[str, Any], AfterValidator(_checked_lease)]


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
        settings: that its map is trained at beside those of its proposal, such as the learning rate of its size.

    What came of it, written before Optuna records its end:

        ranks: module → rank that the recipe set; None where it is the requested one.
        seed: of its adapter.
        seconds: of training and evaluation, a pack's shared out.
        score_se: standard error of the score over examples.
        metrics: metric → mean over examples.
        failure: what sort of failure it was.
        reason: why it failed.

    Who is at work on it:

        attempts: how often a process has started it, or has died at it.
        lease: who holds it; see `rank_search.study.leases`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: Kind = SEARCH
    recipe: Recipe = "scratch"
    requested_ranks: Ranks | None = None
    source: NonNegativeInt | None = None
    budget: NonNegativeInt | None = None
    energy: float | None = None
    batch_order: NonNegativeInt = 0
    settings: Mapping[str, FiniteFloat] = {}

    ranks: Ranks | None = None
    seed: NonNegativeInt | None = None
    seconds: Seconds | None = None
    score_se: float | None = None
    metrics: Mapping[str, float] = {}
    failure: FailureKind | None = None
    reason: str | None = None

    attempts: int = 0
    lease: Lease | None = None

    @classmethod
    def read(cls, trial: Trial | FrozenTrial) -> TrialAttributes:
        """The attributes of a trial as it was when it was read.

        Raises:
            InputError: one is of a type that is never written.
        """
        try:
            return cls.model_validate(trial.user_attrs)
        except ValidationError as error:
            first = error.errors()[0]
            names = ".".join(str(part) for part in first["loc"])
            raise damaged(trial.number, f"{names} is {echo(first['input'])}: {first['msg'].lower()}") from None


def damaged(trial: int, problem: str) -> InputError:
    """The error about a trial whose record is not as this package writes it; whoever reads it adds the database."""
    return InputError(f"{problem}; restore the database from a copy", field=f"trial {trial}")


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
    """

    candidate: Candidate
    kind: Kind
    rival: Rival | None = None
    batch_order: int = 0

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
        """The record of a trial that Optuna keeps.

        Raises:
            InputError: it is not as this package writes it.
        """
        attributes = TrialAttributes.read(trial)
        # What is enqueued is kept there by Optuna until it is drawn.
        enqueued = {} if trial.state == TrialState.COMPLETE else trial.system_attrs.get("fixed_params", {})
        proposal = {**enqueued, **trial.params}
        if problem := _problem_of_request(attributes, proposal, space):
            raise damaged(trial.number, problem)
        record = cls._of(trial, attributes, proposal, space)
        if record.is_complete and (problem := _problem_of_result(record, trial.values or [], space)):
            raise damaged(trial.number, problem)
        return record

    @classmethod
    def _of(
        cls, trial: FrozenTrial, attributes: TrialAttributes, proposal: Mapping[str, float], space: Space
    ) -> TrialRecord:
        return cls(
            number=trial.number,
            state=trial.state,
            proposal=proposal,
            candidate=_candidate(attributes, proposal, space),
            attributes=attributes,
            score=trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None,
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


def _problem_of_request(attributes: TrialAttributes, proposal: Mapping[str, float], space: Space) -> str:
    """What of what was asked for contradicts itself or the space; empty where nothing does."""
    for name, ranks in {"requested_ranks": attributes.requested_ranks, "ranks": attributes.ranks}.items():
        if unknown := set(ranks or ()) - space.shapes.keys():
            return f"{name} has {echo(min(unknown))}, which is no module of the study"
    for name in space.dimensions.keys() & proposal.keys():
        if proposal[name] not in range(len(space.ladder)):
            return f"{name} is {echo(proposal[name])}, which is no place on a ladder of {len(space.ladder)} ranks"
    if attributes.requested_ranks is None:
        return (
            ""
            if attributes.kind not in KINDS.values()
            else f"kind is {attributes.kind!r}, but requested_ranks is missing"
        )
    if attributes.kind not in KINDS.values():
        return f"kind is {attributes.kind!r}, which no trial with requested_ranks has"
    if attributes.recipe == "truncate" and (attributes.source is None or attributes.budget is attributes.energy):
        return "recipe is 'truncate', but source, or budget and energy, are missing"
    return "" if attributes.requested_ranks else "requested_ranks is empty"


def _problem_of_result(record: TrialRecord, values: Sequence[float], space: Space) -> str:
    """What of a complete trial's result is missing, or contradicts the rest; empty where nothing does."""
    attributes = record.attributes
    if record.candidate is None or record.rank_map is None:
        return "its parameters are missing"
    if attributes.recipe in SETS_RANKS and attributes.ranks is None:
        return f"ranks is missing, which the recipe {attributes.recipe!r} sets"
    if attributes.seconds is None:
        return "seconds is missing"
    parameters = space.parameters(record.rank_map)
    if len(values) != 2 or not math.isfinite(values[0]) or values[1] != parameters:
        return f"its values are {echo(list(values))}, not a score and {parameters}, the parameters of its ranks"
    return ""


def read_now(trial: Trial, space: Space) -> TrialRecord:
    """The record of a trial as it is in the storage now."""
    return TrialRecord.read(stored(trial), space)


def _candidate(attributes: TrialAttributes, proposal: Mapping[str, float], space: Space) -> Candidate | None:
    if attributes.requested_ranks is not None:
        requested = RankMap(attributes.requested_ranks)
        return Candidate(requested, attributes.settings, attributes.recipe, attributes.source)
    if not space.dimensions.keys() | space.joint.keys() <= proposal.keys():
        return None
    settings = {**attributes.settings, **space.settings(proposal)}
    return Candidate(space.rank_map(proposal), settings, attributes.recipe)
