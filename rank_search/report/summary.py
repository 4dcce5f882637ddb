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

from rank_search.analysis.choice import DEFAULT_RULE, Rule
from rank_search.analysis.comparison import Contest
from rank_search.analysis.explain import explain
from rank_search.analysis.front import front, hypervolume, hypervolume_history, reference_point
from rank_search.analysis.importance import importance
from rank_search.analysis.maps import probabilities, study_maps
from rank_search.analysis.trials import complete
from rank_search.analysis.verdict import Verdict, judge
from rank_search.core.ranks import RankMap
from rank_search.search.contender import Contender
from rank_search.search.nested import NESTED, agreement
from rank_search.search.rivals.rivals import KINDS, UNIFORM, Baselines
from rank_search.study.storage import DIRECTIONS
from rank_search.study.table import trials_table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from optuna import Study

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.study.metadata import StudyRecord
    from rank_search.study.storage import StudyFolder

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
    """One kind of baseline in a study; each kind is told of, whatever became of it.

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
class Standing:
    """The chosen map or a rival of it, where it was chosen and after that.

    Attributes:
        role: ``chosen``, or a rival's.
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
        record: its settings, space and machine.
        trials: its table of trials.
        maps: its table of maps.
        front: the rows of the maps on the front, by ascending parameters.
        baselines: every kind of baseline.
        reference: the reference point (score, parameters) of the hypervolume.
        hypervolume: after each trial.
        importance: dimension → share; empty when there are too few trials.
        rule: the rule that chose.
        chosen: the chosen map.
        explanation: why it was chosen.
        verdict: the chosen map against its rivals.
        contenders: the chosen map and its rivals.
        verdict_seconds: what fresh trainings took.
        nested: what nested scores have cost, and how they agree with fine-tuned ones; empty without them.
        test: what the run measured on the test split for this choice; empty if it did not get there.
        losses: trial → training loss of each step, where it is on record.
        kept: trials whose weights are there.
    """

    name: str
    record: StudyRecord
    trials: pd.DataFrame
    maps: pd.DataFrame
    front: pd.DataFrame
    baselines: Sequence[BaselineKind]
    reference: tuple[float, float]
    hypervolume: Sequence[float]
    importance: Mapping[str, float]
    rule: Rule
    chosen: ScoredTrial
    explanation: Sequence[str]
    verdict: Verdict
    contenders: Sequence[Standing]
    verdict_seconds: float
    nested: Mapping[str, float]
    test: Mapping[str, Any]
    losses: Mapping[int, Sequence[float]]
    kept: Collection[int]


def summarise(study: Study, record: StudyRecord, folder: StudyFolder) -> Summary:
    """Analyses a study.

    Raises:
        RankSearchError: it has no scored trial yet.
    """
    trials, maps = trials_table(study, record), study_maps(study, record, folder)
    contest = Contest.of(maps, trials)
    rule = Rule.parse(DEFAULT_RULE)
    test = folder.read_test(contest.numbers)
    reference = reference_point(maps, record.space.reference_parameters)
    fresh = _Fresh(folder, record, contest)
    of_map = pd.Series(probabilities(maps), dtype="float64")
    return Summary(
        name=study.study_name,
        record=record,
        trials=trials.assign(front_probability=trials["number"].map(of_map)),
        maps=maps,
        front=front(maps),
        baselines=_baselines(trials, record),
        reference=reference,
        hypervolume=hypervolume_history(trials, reference),
        importance=importance(study),
        rule=rule,
        chosen=contest.chosen,
        explanation=explain(maps, rule, contest.chosen),
        verdict=_verdict(contest, fresh, record, folder, test),
        contenders=[fresh.standing(role, trial, test) for role, trial in contest.contenders.items()],
        verdict_seconds=fresh.seconds,
        nested=_nested(study, trials),
        test=test,
        losses={number: folder.read_result(number).get("losses", ()) for number in trials["number"].tolist()},
        kept=folder.adapters().keys(),
    )


class _Fresh:
    """The fresh trainings of a contest."""

    def __init__(self, folder: StudyFolder, record: StudyRecord, contest: Contest) -> None:
        self._metric: str = record.config["task"]["metric"]
        of_role = {role: Contender(RankMap(of.ranks), of.settings) for role, of in contest.contenders.items()}
        self._results = {role: folder.read_confirmations(of.name) for role, of in of_role.items()}
        self.seconds = sum(
            result.get("seconds", 0.0)
            for name in {of.name for of in of_role.values()}
            for result in folder.read_confirmations(name)
        )

    def values(self) -> dict[str, list[list[float]]]:
        """Role → ``[seeds, examples]``, for the roles whose every training succeeded, on the seeds that all have."""
        sound = {
            role: [result["values"][self._metric] for result in results]
            for role, results in self._results.items()
            if results and all("values" in result for result in results)
        }
        seeds = len(sound.get("chosen", ()))
        return {role: values for role, values in sound.items() if len(values) == seeds}

    def standing(self, role: str, trial: ScoredTrial, test: Mapping[str, Any]) -> Standing:
        """What is known of one of them."""
        exported = test.get("values", {}).get(role)
        results = self._results[role]
        return Standing(
            role,
            trial.number,
            trial.trainable_parameters,
            trial.score,
            fmean(exported) if exported else None,
            tuple(fmean(result["values"][self._metric]) for result in results if "values" in result),
            tuple(result["reason"] for result in results if "reason" in result),
        )


def _baselines(trials: pd.DataFrame, record: StudyRecord) -> list[BaselineKind]:
    """What became of every kind of baseline."""
    space, asked = record.space, record.config["search"].get("baselines", ())
    wanted = {UNIFORM: len(space.ladder)}
    for name, kind in KINDS.items():
        wanted[kind] = len(Baselines(space, [name] if name in asked else []).names)
    found = []
    for kind, count in wanted.items():
        rows = trials[(trials["kind"] == kind) & (trials["round"] == 0)]
        with_score = complete(rows)
        reasons = sorted(set(rows["reason"].dropna()))
        missing = ""
        if count == 0:
            missing = "left out by search.baselines of the study file"
        elif len(with_score) < max(count, len(rows)):  # the truncation to the price of the choice comes on top
            missing = f"failed: {'; '.join(reasons)}" if reasons else "not trained yet"
        best = float(with_score["score"].max()) if len(with_score) else None
        found.append(
            BaselineKind(kind, max(count, len(rows)), len(with_score), best, float(rows["seconds"].sum()), missing)
        )
    return found


def _nested(study: Study, trials: pd.DataFrame) -> dict[str, float]:
    """``evaluations``, ``training_seconds``, ``scoring_seconds``; ``tau``, Kendall's, over so many ``pairs``.

    The untrained model is left out of the pairs: its two scores are the same thing.
    """
    cost: dict[str, float] = study.user_attrs.get(NESTED, {})
    if not cost:
        return {}
    both = complete(trials).query("trainable_parameters > 0").dropna(subset=["nested_score"])
    pairs = list(zip(both["nested_score"], both["score"], strict=True))
    return {**cost, "tau": agreement(pairs), "pairs": len(pairs)}


def _verdict(
    contest: Contest, fresh: _Fresh, record: StudyRecord, folder: StudyFolder, test: Mapping[str, Any]
) -> Verdict:
    """By fresh trainings on the test split; else by saved adapters there; else on the validation split."""
    if "chosen" in (values := fresh.values()):
        return judge(contest, values, "test")
    if test:
        return judge(contest, {role: [of] for role, of in test["values"].items()}, "test")
    metric = record.config["task"]["metric"]
    known = {role: folder.read_result(of.number).get("values", {}) for role, of in contest.contenders.items()}
    return judge(contest, {role: [of[metric]] for role, of in known.items() if metric in of}, "validation")


def summary_json(summary: Summary) -> str:
    """The contents of ``summary.json``: a view for programs, with null for what is not known."""
    chosen = summary.chosen
    task = summary.record.config["task"]
    columns = [
        "number",
        "state",
        "kind",
        "baseline",
        "round",
        "score",
        "score_se",
        "front_probability",
        "trainable_parameters",
        "ranks",
        "settings",
        "seed",
        "seconds",
        "nested_score",
        "rungs",
        "reason",
    ]
    content = {
        "study": summary.name,
        "model": summary.record.config["model"]["source"],
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
            "seeds": chosen.seeds,
            "front_probability": chosen.front_probability,
            "trainable_parameters": chosen.trainable_parameters,
            "ranks": chosen.ranks,
            "settings": chosen.settings,
            "explanation": list(summary.explanation),
        },
        "verdict": asdict(summary.verdict),
        "contenders": [asdict(of) for of in summary.contenders],
        "verdict_seconds": summary.verdict_seconds,
        "baselines": [asdict(of) for of in summary.baselines],
        "maps": summary.maps[_MAP_COLUMNS].to_dict(orient="records"),
        "test": test_scores(summary),
        "test_metrics": summary.test.get("metrics", {}),
        "head_parameters": summary.record.head_parameters,
        "cut": dict(summary.record.cut),
        "importance": dict(summary.importance),
        "nested": dict(summary.nested),
        "trials": summary.trials[columns].to_dict(orient="records"),
        "data_fingerprint": summary.record.data_fingerprint,
        "model_fingerprint": summary.record.model_fingerprint,
        "environment": dict(summary.record.environment),
    }
    return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def test_scores(summary: Summary) -> dict[str, float]:
    """Mean test score of the untrained model and of the saved adapters of the contest by role, where measured."""
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
