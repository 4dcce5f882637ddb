"""A browser, summaries of tables made by hand, and results on the test split."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from playwright.sync_api import Browser

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.front import front, hypervolume_history
from rank_search.analysis.maps import probabilities
from rank_search.analysis.slope import slope
from rank_search.analysis.verdict import judge
from rank_search.core.choice import DEFAULT_RULE, Rule
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.report.summary import ComparedMap, Summary, differences_to_best_uniform
from tests.analysis.conftest import evidence
from tests.bench import metadata
from tests.browser import chromium, started
from tests.conftest import missing

# That of the tables in tests/analysis/conftest.py: ten parameters a rank.
ONE_MODULE = Space({"w": Shape(4, 6)}, {"w": ("w",)}, tuple(range(11)))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if chromium() is None:
        missing("Chromium is not here; apt-get install chromium")
    with started() as found:
        yield found


def summary_of(trials: pd.DataFrame, space: Space = ONE_MODULE, **changes) -> Summary:
    """The summary of a table of trials, of which nothing lies in a folder."""
    known = evidence(trials, "0.015", noise=0.02)
    maps = known.maps
    comparison = Comparison.from_evidence(known, Rule(DEFAULT_RULE))
    reference = (0.0, space.reference_parameters)
    compared = [
        ComparedMap(role, trial.number, trial.trainable_parameters, trial.score, None, (), ())
        for role, trial in comparison.trials.items()
    ]
    content = {
        "name": "small",
        "metadata": metadata(space),
        "trials": trials.assign(front_probability=trials["number"].map(probabilities(maps))).join(
            differences_to_best_uniform(known)
        ),
        "maps": maps,
        "front": front(maps),
        "baselines": (),
        "reference": reference,
        "hypervolume": hypervolume_history(trials, reference),
        "importance": {},
        "evidence": known,
        "slope": slope(known),
        "expected": None,
        "rule": Rule(DEFAULT_RULE),
        "chosen": comparison.chosen,
        "explanation": (),
        "remarks": (),
        "search_gain": None,
        "verdict": judge(comparison, {}, "validation", known.margin),
        "compared": compared,
        "verdict_seconds": 0.0,
        "rates": None,
        "test": {},
        "losses": {},
        "kept": (),
    }
    return Summary(**{**content, **changes})


def measured(summary: Summary):
    """The trials of a study and what its adapters are said to do on the test split, with one example."""
    passages = [{"text": "def f(): pass", "right": True}, {"text": "<script>", "right": False}]
    shown = {"passages": passages, "answer": {"text": "forty-two", "right": True}}
    trials = {compared.role: compared.trial for compared in summary.compared}
    values = {"untrained": [0.1, 0.2], **{role: [0.3, 0.4] for role in trials}}
    example = {"title": "largest gain", "text": "find f", "expected": "42", "before": shown, "after": shown}
    metrics = {name: {"ndcg@10": 0.5} for name in values}
    return trials, {"values": values, "metrics": metrics, "examples": [example]}
