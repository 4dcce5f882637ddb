"""Everything the report says, gathered once: the page, the plots and ``summary.json`` are views of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rank_search.analysis.choice import DEFAULT_RULE, Rule
from rank_search.analysis.front import front, hypervolume, hypervolume_history, reference_point
from rank_search.analysis.importance import importance
from rank_search.analysis.trials import complete
from rank_search.analysis.verdict import Contest, Verdict, judge
from rank_search.search.nested import NESTED, agreement
from rank_search.search.storage import DIRECTIONS
from rank_search.search.table import trials_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.search.record import StudyRecord
    from rank_search.search.storage import StudyFolder


@dataclass(frozen=True)
class Summary:
    """A study, analysed.

    Attributes:
        name: the study's name.
        record: its settings, space and machine.
        trials: its table of trials.
        front: the rows of the front, by ascending parameters.
        reference: the reference point (score, parameters) of the hypervolume.
        hypervolume: after each trial.
        importance: dimension → share; empty when there are too few trials.
        rule: the rule that chose.
        chosen: the chosen trial.
        verdict: the chosen map against its uniform rival.
        nested: what nested scores have cost, and how they agree with fine-tuned ones; empty without them.
        test: what the run measured on the test split for this choice; empty if it did not get there.
    """

    name: str
    record: StudyRecord
    trials: pd.DataFrame
    front: pd.DataFrame
    reference: tuple[float, float]
    hypervolume: Sequence[float]
    importance: Mapping[str, float]
    rule: Rule
    chosen: ScoredTrial
    verdict: Verdict
    nested: Mapping[str, float]
    test: Mapping[str, Any]


def summarise(study: Study, record: StudyRecord, folder: StudyFolder) -> Summary:
    """Analyses a study.

    Raises:
        RankSearchError: it has no scored trial yet.
    """
    trials = trials_table(study, record)
    contest = Contest.of(trials)
    test = folder.read_test(contest.numbers)
    reference = reference_point(trials, record.space.most_parameters)
    return Summary(
        name=study.study_name,
        record=record,
        trials=trials,
        front=front(trials),
        reference=reference,
        hypervolume=hypervolume_history(trials, reference),
        importance=importance(study),
        rule=Rule.parse(DEFAULT_RULE),
        chosen=contest.chosen,
        verdict=_verdict(contest, record, folder, test),
        nested=_nested(study, trials),
        test=test,
    )


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
    contest: Contest,
    record: StudyRecord,
    folder: StudyFolder,
    test: Mapping[str, Any],
) -> Verdict:
    """On the test split where the run measured it, else on the validation split."""
    chosen, baseline = contest.chosen, contest.baseline
    if test:
        return judge(chosen, baseline, test["values"]["chosen"], test["values"].get("baseline", []), "test")
    metric = record.config["task"]["metric"]

    def values(trial: ScoredTrial | None) -> list[float]:
        result = folder.read_result(trial.number) if trial else {}
        found: list[float] = result.get("values", {}).get(metric, [])
        return found

    return judge(chosen, baseline, values(chosen), values(baseline), "validation")


def summary_json(summary: Summary) -> str:
    """The contents of ``summary.json``: a view for programs, with null for what is not known."""
    chosen = summary.chosen
    task = summary.record.config["task"]
    columns = [
        "number",
        "state",
        "kind",
        "score",
        "score_se",
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
        "hypervolume": hypervolume(summary.trials, summary.reference),
        "reference_point": list(summary.reference),
        "front": summary.front["number"].tolist(),
        "chosen": {
            "trial": chosen.number,
            "rule": str(summary.rule),
            "score": chosen.score,
            "trainable_parameters": chosen.trainable_parameters,
            "ranks": chosen.ranks,
            "settings": chosen.settings,
        },
        "verdict": asdict(summary.verdict),
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
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def test_scores(summary: Summary) -> dict[str, float]:
    """Mean test score of the untrained model, the uniform rival and the chosen map, where measured."""
    values = summary.test.get("values", {})
    return {name: sum(scores) / len(scores) for name, scores in values.items() if scores}


def _plain(value: Any) -> Any:
    """The same in JSON's own types, with null for what is missing or no number."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value
