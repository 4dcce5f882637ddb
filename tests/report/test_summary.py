"""Everything the report says, gathered once."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.maps import study_maps
from rank_search.analysis.trials import scored
from rank_search.core.errors import RankSearchError, TrainingFailed
from rank_search.core.space import JointSetting
from rank_search.report.summary import plain, summarise, summary_json, test_scores
from rank_search.study.folder import CONFIRMATIONS, StudyFolder
from rank_search.study.handle import Study
from tests.analysis.conftest import TRIALS
from tests.bench import SPACE, Bench, Landscape, metadata, study_config
from tests.report.conftest import measured, summary_of

pytestmark = pytest.mark.slow

test_scores.__test__ = False  # what it is called is no test

UNIFORM, SVD, EVA = "baseline:uniform", "baseline:svd", "baseline:eva"
FIELDS = {"number", "state", "kind", "score", "score_se", "trainable_parameters", "ranks", "seed", "seconds"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> StudyFolder:
    """A study with all kinds of baseline, and some maps trained twice."""
    folder = StudyFolder(tmp_path_factory.mktemp("finished") / "small")
    folder.path.mkdir()
    Bench(folder).search(30, baselines=["svd", "eva", "adalora"], repeats=4)
    return folder


@pytest.fixture
def study(finished, tmp_path) -> Study:
    """The same, for one test to change."""
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(finished.path, folder.path)
    return Bench(folder).handle()


def asking_for(study: Study, *baselines: str) -> Study:
    """A study whose file asks for these baselines."""
    config = study_config(search={"baselines": list(baselines)}).frozen()
    return replace(study, metadata=replace(study.metadata, config=config))


def comparison_of(study: Study) -> Comparison:
    return Comparison.from_evidence(study_evidence(study), study.rule)


def train_afresh(study: Study, seeds: int = 2, **results) -> None:
    """Keeps results of fresh trainings of all compared maps; of some roles, these instead."""
    by_key = {}
    for role, trial in comparison_of(study).trials.items():
        sound = [{"values": {"ndcg@10": [trial.score, trial.score + 0.02]}, "seconds": 2.0}] * seeds
        by_key.setdefault(trial.fresh.key, results.get(role, sound))
    for key, kept in by_key.items():
        for number, result in enumerate(kept):
            study.folder.write_training(CONFIRMATIONS, key, number, {"seed": number, **result})


def written(study: Study) -> dict:
    """What ``summary.json`` says of a study."""
    return json.loads(summary_json(summarise(study)))


# What summary.json holds


def test_json_names_the_study_and_what_it_maximises(study) -> None:
    found = written(study)
    assert (found["study"], found["model"], found["task"]) == ("small", study_config().model.source, "retrieval")
    assert (found["metric"], found["direction"]) == ("ndcg@10", "maximize")
    assert (found["data_fingerprint"], found["model_fingerprint"]) == ("data", "model")


def test_json_holds_every_trial_as_optuna_has_it(study) -> None:
    found = written(study)
    assert len(found["reference_point"]) == 2
    for row, trial in zip(found["trials"], study.optuna_study.trials, strict=True):
        assert set(row) >= FIELDS
        assert (row["number"], row["score"], row["trainable_parameters"]) == (trial.number, *trial.values)
        assert isinstance(row["trainable_parameters"], int)


def test_json_holds_the_front_of_optuna(bench) -> None:
    optuna_study = bench.search(12)
    found = written(bench.handle())
    assert set(found["front"]) == {trial.number for trial in optuna_study.best_trials}


def test_json_holds_the_choice_and_the_verdict(study) -> None:
    found = written(study)
    promised = {"trial", "rule", "score", "trainable_parameters", "ranks"}
    assert set(found["chosen"]) == promised | {
        "settings",
        "score_se",
        "expected_score",
        "seeds",
        "front_probability",
        "explanation",
    }
    assert {"text", "delta", "ci_low", "ci_high", "baseline"} <= set(found["verdict"])
    assert [compared["role"] for compared in found["compared"]] == ["chosen", "best uniform", "uniform", "svd"]
    assert found["compared"][0]["trial"] == found["chosen"]["trial"]
    assert sum(found["importance"].values()) == pytest.approx(1)


def test_hypervolume_follows_from_the_front_and_the_reference_point(study) -> None:
    found = written(study)
    score, parameters = found["reference_point"]
    maps = {row["number"]: row for row in found["maps"]}
    area, floor = 0.0, score
    for number in found["front"]:
        row = maps[number]
        area += max(0.0, row["score"] - floor) * max(0.0, parameters - row["trainable_parameters"])
        floor = max(floor, row["score"])
    assert found["hypervolume"] == pytest.approx(area)
    assert summarise(study).hypervolume[-1] == pytest.approx(area)


def test_failures_have_a_reason_and_numbers_stay_json(bench) -> None:
    bench.search(6, Landscape({2: TrainingFailed("loss is nan")}))
    failed = written(bench.handle())["trials"][2]
    assert (failed["state"], failed["score"], failed["reason"]) == ("FAIL", None, "loss is nan")
    assert failed["front_probability"] is None


def test_json_says_what_is_trained_and_searched_beside_the_ranks(bench) -> None:
    space = replace(SPACE, joint={"alpha": JointSetting(1, 16, 4, log=True)})
    bench.search(6, space=space)
    kept = replace(metadata(space), head=("classifier",), head_parameters=1234, cut={"texts": (5, 90)}, notes=("a",))
    found = written(replace(bench.handle(space), metadata=kept))
    assert (found["head_parameters"], found["cut"], found["notes"]) == (1234, {"texts": [5, 90]}, ["a"])
    assert all(set(row["settings"]) == {"alpha"} for row in found["trials"])
    assert set(found["chosen"]["settings"]) == {"alpha"}


def test_study_without_scores_has_no_summary(bench) -> None:
    bench.search(2, Landscape({0: TrainingFailed("x"), 1: TrainingFailed("y")}))
    with pytest.raises(RankSearchError, match=r"^no trial of the study has a score yet; see its status, and run it$"):
        summarise(bench.handle())


# Trials


def test_every_training_of_a_map_has_the_maps_place_on_the_front(study) -> None:
    summary = summarise(study)
    maps = {number: row for row in summary.maps.to_dict(orient="records") for number in row["trials"]}
    assert any(row["seeds"] > 1 for row in maps.values())
    for number, probability in zip(summary.trials["number"], summary.trials["front_probability"], strict=True):
        assert probability == maps[number]["front_probability"] if number in maps else math.isnan(probability)
    assert set(summary.trials["number"]) >= maps.keys()


def test_losses_and_kept_weights_are_those_of_the_folder(study) -> None:
    summary = summarise(study)
    numbers = summary.trials["number"].tolist()
    assert summary.losses == {number: study.folder.read_result(number)["losses"] for number in numbers}
    assert set(summary.kept) == {number for number in numbers if study.folder.adapter(number).is_dir()} != set()
    study.folder.result(3).unlink()
    assert summarise(study).losses[3] == ()


# Baselines


def baseline(study: Study, kind: str):
    (found,) = (found for found in summarise(study).baselines if found.kind == kind)
    return found


def test_every_kind_of_baseline_is_listed_and_none_is_missing(study) -> None:
    found = summarise(asking_for(study, "svd", "eva", "adalora")).baselines
    assert [kind.kind for kind in found] == [UNIFORM, SVD, EVA, "baseline:adalora"]
    trials = study.table()
    for kind in found:
        rows = trials[(trials["kind"] == kind.kind) & (trials["batch_order"] == 0)]
        assert (kind.scored, kind.missing) == (len(rows), "")
        assert kind.wanted == len(rows)
        assert (kind.best, kind.seconds) == (rows["score"].max(), pytest.approx(rows["seconds"].sum()))


def test_baselines_that_the_study_file_leaves_out_are_said_to_be(bench) -> None:
    bench.search(6)
    found = baseline(bench.handle(), EVA)
    assert (found.wanted, found.scored, found.best, found.seconds) == (0, 0, None, 0.0)
    assert found.missing == "left out by search.baselines of the study file"


def test_baselines_that_failed_say_why_each_reason_once(bench) -> None:
    bench.search(6, Landscape({1: TrainingFailed("b"), 2: TrainingFailed("a"), 3: TrainingFailed("b")}))
    found = baseline(bench.handle(), UNIFORM)
    assert (found.wanted, found.scored, found.missing) == (4, 1, "failed: a; b")


def test_baselines_may_be_waited_for(bench) -> None:
    bench.search(2)
    found = baseline(bench.handle(), UNIFORM)
    assert (found.wanted, found.scored, found.missing) == (4, 2, "not trained yet")
    assert baseline(asking_for(bench.handle(), "eva"), EVA).missing == "not trained yet"


# The verdict, and what it rests on


def test_without_the_test_split_the_verdict_is_by_validation(study) -> None:
    summary = summarise(study)
    assert (summary.verdict.split, summary.verdict.seeds, summary.verdict_seconds) == ("validation", 1, 0.0)
    assert all((compared.exported, compared.tests) == (None, ()) for compared in summary.compared)


def test_without_example_scores_there_is_no_verdict(study) -> None:
    shutil.rmtree(study.folder.path / "results")
    verdict = summarise(study).verdict
    assert (verdict.outcome, verdict.comparisons) == ("not shown", ())
    assert "no scores are on this machine" in verdict.headline


def test_saved_adapters_on_the_test_split_come_before_validation(study) -> None:
    trials, test = measured(summarise(study))
    study.folder.write_test(trials, test)
    summary = summarise(study)
    assert (summary.verdict.split, summary.verdict.seeds) == ("test", 1)
    assert {compared.exported for compared in summary.compared} == {0.35}
    assert test_scores(summary) == pytest.approx({"untrained": 0.15, **dict.fromkeys(trials, 0.35)})
    assert written(study)["test_metrics"]["untrained"] == {"ndcg@10": 0.5}


def test_measurements_for_another_choice_count_for_nothing(study) -> None:
    trials, test = measured(summarise(study))
    study.folder.write_test({**trials, "chosen": 99}, test)
    summary = summarise(study)
    assert (summary.verdict.split, summary.test, test_scores(summary)) == ("validation", {}, {})


def test_fresh_trainings_come_before_saved_adapters(study) -> None:
    study.folder.write_test(*measured(summarise(study)))
    train_afresh(study, seeds=3)
    summary = summarise(study)
    assert (summary.verdict.split, summary.verdict.seeds) == ("test", 3)
    for compared in summary.compared:
        assert compared.tests == pytest.approx([compared.validation + 0.01] * 3)
        assert compared.failures == ()


def test_a_map_of_two_roles_was_trained_afresh_once(bench) -> None:
    bench.search(4)  # uniform maps alone, so that the choice is its own baseline
    train_afresh(bench.handle(), seeds=2)
    trials = comparison_of(bench.handle()).trials
    distinct = {trial.number for trial in trials.values()}
    assert len(distinct) < len(trials)
    assert summarise(bench.handle()).verdict_seconds == 2 * 2.0 * len(distinct)


@pytest.mark.parametrize("role", ["chosen", "svd"])
def test_a_fresh_training_that_failed_takes_its_map_out_of_the_verdict(study, role) -> None:
    failed = [{"values": {"ndcg@10": [0.3, 0.5]}, "seconds": 1.0}, {"reason": "loss is nan"}]
    train_afresh(study, **{role: failed})
    summary = summarise(study)
    (compared,) = (compared for compared in summary.compared if compared.role == role)
    assert (compared.tests, compared.failures) == ((0.4,), ("loss is nan",))
    assert summary.verdict.split == ("validation" if role == "chosen" else "test")
    assert ("svd" in {difference.role for difference in summary.verdict.comparisons}) == (role == "chosen")


def test_maps_trained_on_fewer_seeds_than_the_choice_are_compared_on_those(study) -> None:
    """A rival of which something was shown at an early look is trained no more."""
    train_afresh(study, svd=[{"values": {"ndcg@10": [0.1, 0.2]}, "seconds": 1.0}])
    summary = summarise(study)
    assert summary.verdict.split == "test"
    assert {difference.role: difference.seeds for difference in summary.verdict.comparisons}["svd"] == 1


def test_a_role_without_test_scores_has_no_mean() -> None:
    summary = summary_of(TRIALS, test={"values": {"untrained": [0.25, 0.75], "chosen": []}})
    assert test_scores(summary) == {"untrained": 0.5}


# JSON's own types

LEAVES = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.integers()
    | st.floats()
    | st.sampled_from([pd.NA, np.int64(3), np.float64("nan"), np.float32(0.5), np.bool_(True), -math.inf])
)
VALUES = st.recursive(
    LEAVES,
    lambda values: (
        st.lists(values, max_size=3)
        | st.lists(values, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), values, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(VALUES)
def test_plain_values_are_what_json_gives_back(value) -> None:
    found = plain(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert plain(found) == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (math.inf, None),
        (np.float64("nan"), None),
        (pd.NA, None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ((1, [np.float64(0.5)]), [1, [0.5]]),
        ({"a": {"b": math.nan}}, {"a": {"b": None}}),
        ("nan", "nan"),
        (2**60, 2**60),
    ],
)
def test_what_is_missing_or_no_number_is_null(value, expected) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_ranks_stay_a_mapping_of_every_module(study) -> None:
    chosen = written(study)["chosen"]
    assert chosen["ranks"] == dict(scored(study_maps(study))[chosen["trial"]].ranks)
    assert chosen["ranks"].keys() == SPACE.shapes.keys()
