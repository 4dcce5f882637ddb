"""Everything the report says, gathered once: the page, the plots and ``summary.json`` are views of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.explain import explain
from rank_search.analysis.front import front, hypervolume, hypervolume_history, reference_point
from rank_search.analysis.importance import importance
from rank_search.analysis.maps import probabilities
from rank_search.analysis.remarks import remarks
from rank_search.analysis.search_gain import search_gain
from rank_search.analysis.shrinkage import expected_score
from rank_search.analysis.slope import slope
from rank_search.analysis.trials import complete
from rank_search.analysis.verdict import Verdict, judge
from rank_search.core.rivals import KINDS, UNIFORM, Rivals
from rank_search.study.storage import DIRECTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.search_gain import SearchGain
    from rank_search.analysis.slope import Slope
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.choice import Rule
    from rank_search.core.rates import LearningRates
    from rank_search.study.handle import Study
    from rank_search.study.metadata import StudyMetadata

_MAP_COLUMNS = [
    "number",
    "kind",
    "trials",
    "seeds",
    "score",
    "score_se",
    "se_examples",
    "se_seeds",
    "front_probability",
    "trainable_parameters",
]


@dataclass(frozen=True)
class BaselineKind:
    """One kind of baseline in a study; each kind is listed, whether its trials succeeded or not.

    Attributes:
        kind: as in the table of trials.
        wanted: how many the study file asks for.
        scored: how many have a score.
        best: the highest of them; None where there is none.
        seconds: what all of them took.
        missing: in words why some are missing; empty where none are.
    """

    kind: str
    wanted: int
    scored: int
    best: float | None
    seconds: float
    missing: str


@dataclass(frozen=True)
class ComparedMap:
    """The chosen map or a baseline of it, with its scores at the choice and after it.

    Attributes:
        role: ``chosen``, or a baseline's.
        trial: its number.
        trainable_parameters: of its map.
        validation: its score when the choice was made.
        exported: the test score of the adapter that is saved; None if it was not measured.
        tests: test scores of its fresh trainings.
        failures: why fresh trainings have no score.
    """

    role: str
    trial: int
    trainable_parameters: int
    validation: float
    exported: float | None
    tests: tuple[float, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A study, analysed.

    Attributes:
        name: the study's name.
        metadata: its settings, space and machine.
        trials: its table of trials.
        maps: its table of maps.
        front: the rows of the maps on the front, by ascending parameters.
        baselines: every kind of baseline.
        reference: the reference point (score, parameters) of the hypervolume.
        hypervolume: after each trial.
        importance: dimension → share; empty when there are too few trials.
        evidence: what the choice rests on.
        rule: the rule that chose.
        chosen: the chosen map.
        expected: what it can be expected to score on validation again; None where too little is known.
        slope: whether rank matters; None where the study can't tell.
        explanation: why it was chosen.
        remarks: what the study's figures say of the study itself.
        search_gain: what the search added to what costs no search; None where it proposed nothing.
        verdict: the chosen map against its rivals.
        compared: the chosen map and its baselines.
        verdict_seconds: what fresh trainings took.
        rates: learning rates by the size of a map; None where they were not searched before the trials.
        test: what the run measured on the test split for this choice; empty if it did not get there.
        losses: trial → training loss of each step, where it is on record.
        kept: trials whose weights are there.
    """

    name: str
    metadata: StudyMetadata
    trials: pd.DataFrame
    maps: pd.DataFrame
    front: pd.DataFrame
    baselines: Sequence[BaselineKind]
    reference: tuple[float, float]
    hypervolume: Sequence[float]
    importance: Mapping[str, float]
    evidence: Evidence
    rule: Rule
    chosen: ScoredTrial
    expected: float | None
    slope: Slope | None
    explanation: Sequence[str]
    remarks: Sequence[str]
    search_gain: SearchGain | None
    verdict: Verdict
    compared: Sequence[ComparedMap]
    verdict_seconds: float
    rates: LearningRates | None
    test: Mapping[str, Any]
    losses: Mapping[int, Sequence[float]]
    kept: Collection[int]


def summarise(study: Study) -> Summary:
    """Analyses a study.

    Raises:
        RankSearchError: it has no scored trial yet, or no map meets its rule.
    """
    evidence = study_evidence(study)
    trials, maps = evidence.trials, evidence.maps
    rule = study.rule
    comparison = Comparison.from_evidence(evidence, rule)
    found_slope = slope(evidence)
    test = study.folder.read_test(comparison.numbers)
    gain = search_gain(evidence, rule, study.space.reference_parameters)
    reference = reference_point(maps, study.space.reference_parameters)
    fresh = _FreshResults(study, comparison)
    probability = pd.Series(probabilities(maps), dtype="float64")
    return Summary(
        name=study.name,
        metadata=study.metadata,
        trials=trials.assign(front_probability=trials["number"].map(probability)).join(
            differences_to_best_uniform(evidence)
        ),
        maps=maps,
        front=front(maps),
        baselines=_baselines(trials, study.metadata),
        reference=reference,
        hypervolume=hypervolume_history(trials, reference),
        importance=importance(study),
        evidence=evidence,
        rule=rule,
        chosen=comparison.chosen,
        expected=expected_score(evidence, comparison.chosen),
        slope=found_slope,
        explanation=explain(evidence, rule, comparison.chosen),
        remarks=remarks(evidence, study.rates, gain),
        search_gain=gain,
        verdict=verdict_of(study, evidence, comparison, found_slope),
        compared=[fresh.compared_map(role, trial, test) for role, trial in comparison.trials.items()],
        verdict_seconds=fresh.seconds,
        rates=study.rates,
        test=test,
        losses={number: study.folder.read_result(number).get("losses", ()) for number in trials["number"].tolist()},
        kept=study.folder.adapters().keys(),
    )


class _FreshResults:
    """What the fresh trainings of the compared maps came to."""

    def __init__(self, study: Study, comparison: Comparison) -> None:
        self._metric = study.metric
        keys = {role: trial.fresh.key for role, trial in comparison.trials.items()}
        by_key = {key: study.folder.read_confirmations(key) for key in set(keys.values())}
        self._results = {role: by_key[key] for role, key in keys.items()}
        self.seconds = sum(result.get("seconds", 0.0) for results in by_key.values() for result in results)

    def values(self) -> dict[str, list[list[float]]]:
        """Role → ``[seeds, examples]``, for the roles whose every training succeeded."""
        return {
            role: [result["values"][self._metric] for result in results]
            for role, results in self._results.items()
            if results and all("values" in result for result in results)
        }

    def compared_map(self, role: str, trial: ScoredTrial, test: Mapping[str, Any]) -> ComparedMap:
        """What is known of one of the maps."""
        exported = test.get("values", {}).get(role)
        results = self._results[role]
        return ComparedMap(
            role,
            trial.number,
            trial.trainable_parameters,
            trial.score,
            fmean(exported) if exported else None,
            tuple(fmean(result["values"][self._metric]) for result in results if "values" in result),
            tuple(result["reason"] for result in results if "reason" in result),
        )


def _baselines(trials: pd.DataFrame, metadata: StudyMetadata) -> list[BaselineKind]:
    """What became of every kind of baseline."""
    asked = metadata.config["search"].get("baselines", ())
    wanted: dict[str, int] = {UNIFORM: len(metadata.space.ladder)}
    for name, kind in KINDS.items():
        wanted[kind] = len(Rivals(metadata.space, {name} & set(asked)).all)
    return [_baseline_kind(kind, count, trials) for kind, count in wanted.items()]


def _baseline_kind(kind: str, wanted: int, trials: pd.DataFrame) -> BaselineKind:
    rows = trials[(trials["kind"] == kind) & (trials["batch_order"] == 0)]
    with_score = complete(rows)
    reasons = sorted(set(rows["reason"].dropna()))
    missing = ""
    if wanted == 0:
        missing = "left out by search.baselines of the study file"
    elif len(with_score) < max(wanted, len(rows)):  # the truncation to the size of the choice comes on top
        missing = f"failed: {'; '.join(reasons)}" if reasons else "not trained yet"
    best = float(with_score["score"].max()) if len(with_score) else None
    return BaselineKind(kind, max(wanted, len(rows)), len(with_score), best, float(rows["seconds"].sum()), missing)


def verdict_of(study: Study, evidence: Evidence, comparison: Comparison, found_slope: Slope | None) -> Verdict:
    """By fresh trainings on the test split; else by saved adapters there; else on the validation split."""
    noise = evidence.searched.noise
    values: Mapping[str, Sequence[Sequence[float]]] = _FreshResults(study, comparison).values()
    split = "test"
    if "chosen" not in values:
        if test := study.folder.read_test(comparison.numbers):
            values = {role: [scores] for role, scores in test["values"].items()}
        else:
            split = "validation"
            known = {role: evidence.searched.values(trial.number) for role, trial in comparison.trials.items()}
            values = {role: [scores] for role, scores in known.items() if len(scores)}
    searched = bool(study.space.joint)
    return judge(comparison, values, split, evidence.margin, noise, found_slope, settings_searched=searched)


def differences_to_best_uniform(evidence: Evidence) -> pd.DataFrame:
    """Columns beside the table of trials: each map's paired difference to the best uniform map, with its 95 % interval.

    A map that was trained several times has one difference, over all of them, which stands beside each of its trials.
    """
    map_of = {trial: number for number, orders in evidence.searched.trainings.items() for trial in orders.values()}
    found: dict[int, tuple[float, float, float]] = {}
    if (best := evidence.best_uniform) is not None:
        for number in set(map_of.values()):
            if (difference := evidence.searched.difference(number, best.number)) is not None:
                found[number] = (difference.delta, *difference.interval())
    unknown = (math.nan, math.nan, math.nan)
    rows = [found.get(map_of.get(trial, -1), unknown) for trial in evidence.trials["number"].tolist()]
    columns = ["difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=columns, index=evidence.trials.index, dtype=float)


def summary_json(summary: Summary) -> str:
    """The contents of ``summary.json``: a view for programs, with null for what is not known."""
    chosen = summary.chosen
    task = summary.metadata.config["task"]
    columns = [
        "number",
        "state",
        "kind",
        "in_space",
        "label",
        "recipe",
        "budget",
        "energy",
        "source",
        "batch_order",
        "score",
        "score_se",
        "front_probability",
        "difference",
        "difference_low",
        "difference_high",
        "trainable_parameters",
        "ranks",
        "requested_ranks",
        "settings",
        "seed",
        "seconds",
        "reason",
    ]
    content = {
        "study": summary.name,
        "model": summary.metadata.config["model"]["source"],
        "task": task["kind"],
        "metric": task["metric"],
        "direction": DIRECTIONS[0],
        "hypervolume": hypervolume(summary.maps, summary.reference),
        "reference_point": list(summary.reference),
        "front": summary.front["number"].tolist(),
        "chosen": {
            "trial": chosen.number,
            "rule": str(summary.rule),
            "score": chosen.score,
            "score_se": chosen.score_se,
            "expected_score": summary.expected,
            "seeds": chosen.seeds,
            "front_probability": chosen.front_probability,
            "trainable_parameters": chosen.trainable_parameters,
            "ranks": chosen.ranks,
            "settings": chosen.settings,
            "explanation": list(summary.explanation),
        },
        "verdict": asdict(summary.verdict),
        "slope": asdict(summary.slope) if summary.slope else None,
        "remarks": list(summary.remarks),
        "search_gain": _search_gain(summary.search_gain),
        "compared": [asdict(compared) for compared in summary.compared],
        "verdict_seconds": summary.verdict_seconds,
        "baselines": [asdict(kind) for kind in summary.baselines],
        "maps": summary.maps[_MAP_COLUMNS].to_dict(orient="records"),
        "test": test_scores(summary),
        "test_metrics": summary.test.get("metrics", {}),
        "head_parameters": summary.metadata.head_parameters,
        "cut": dict(summary.metadata.cut),
        "notes": list(summary.metadata.notes),
        "importance": dict(summary.importance),
        "learning_rates": asdict(summary.rates) if summary.rates else None,
        "trials": summary.trials[columns].to_dict(orient="records"),
        "data_fingerprint": summary.metadata.data_fingerprint,
        "model_fingerprint": summary.metadata.model_fingerprint,
        "environment": dict(summary.metadata.environment),
    }
    return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _search_gain(gain: SearchGain | None) -> dict[str, Any] | None:
    """What a search added: hypervolumes, and numbers of the maps chosen without it and with it."""
    if gain is None:
        return None
    return {
        "rivals_hypervolume": gain.rivals_hypervolume,
        "hypervolume": gain.hypervolume,
        "rivals_choice": gain.rivals_choice.number,
        "choice": gain.choice.number,
    }


def test_scores(summary: Summary) -> dict[str, float]:
    """Mean test score of the untrained model and of the saved adapters of the compared maps by role, where measured."""
    values = summary.test.get("values", {})
    return {name: sum(scores) / len(scores) for name, scores in values.items() if scores}


def plain(value: Any) -> Any:
    """The same in JSON's own types, with null for what is missing or no number."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value
