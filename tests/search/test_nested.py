import math

import pytest
from optuna.trial import TrialState

from rank_search.core.errors import SearchStopped, TrainingFailed
from rank_search.search.nested import NestedSearch
from rank_search.study.handle import Study
from rank_search.study.nested_scores import NestedScores
from tests.bench import SPACE, Bench, Landscape, Silent, study_config, table_of
from tests.search.test_loop import Killed, _folder

pytestmark = pytest.mark.slow


class Scorer:
    """Nested scores by a formula: ``twist`` of a map's true score."""

    def __init__(self, twist=lambda score: 0.9 * score, killed_at: int | None = None) -> None:
        self.twist = twist
        self.trained = 0
        self.scored = []
        self.killed_at = killed_at

    def train(self, seed, data_seed, on_step) -> None:
        self.trained += 1

    def score(self, maps) -> list[float]:
        if self.killed_at is not None and len(self.scored) >= self.killed_at:
            raise Killed
        self.scored += [ranks.key for ranks in maps]
        weights = Landscape().weights
        return [
            self.twist(sum(rank**0.5 * w for rank, w in zip(ranks.ranks.values(), weights, strict=True)) / 4)
            for ranks in maps
        ]

    def energies(self):
        return {
            name: [weight / (j + 1) for j in range(4)]
            for name, weight in zip(SPACE.shapes, Landscape().weights, strict=True)
        }


def nested(bench: Bench, scorer=None, evaluations: int = 30, pack: int = 1) -> NestedSearch:
    config = study_config(search={"strategy": "nested", "nested": {"evaluations": evaluations}})
    return NestedSearch(NestedScores.beside(bench.handle()), config, SPACE, scorer or Scorer(), Silent(), pack)


def scores(search: NestedSearch) -> list[tuple]:
    return [(trial.params, trial.values, trial.state) for trial in search.scores.optuna_study.trials]


def test_uniform_maps_and_cuts_by_weight_against_price_come_first(bench) -> None:
    search = nested(bench)
    search.run()
    # Eight cuts, the last of which is the largest uniform map.
    first = [SPACE.rank_map(trial.params) for trial in search.scores.optuna_study.trials[:11]]
    assert first[:4] == [SPACE.uniform(rank) for rank in SPACE.ladder]
    sizes = [SPACE.parameters(ranks) for ranks in first[4:]]
    assert sizes == sorted(sizes)
    # The heaviest module is raised first: layer 0, of weight 0.5.
    assert first[4].ranks["layer.0.w"] > 0
    assert len(search.scores.optuna_study.trials) == 30
    assert len({SPACE.rank_map(trial.params).key for trial in search.scores.optuna_study.trials}) == 30


def test_candidates_come_first_then_the_baselines_then_more_candidates(bench) -> None:
    search = nested(bench)
    search.run()
    table = table_of(bench.search(12, nested=search))
    uniform = [SPACE.uniform(rank).key for rank in SPACE.ladder]
    assert [kind == "baseline:uniform" for kind in table["kind"]] == [key in uniform for key in table["key"]]
    assert set(table["kind"]) == {"baseline:uniform", "confirm"}
    first = [key for key in table["key"][:4] if key in uniform]
    assert len(first) < 4  # of as many candidates as there are baselines, some are no baselines
    missing = [key for key in uniform if key not in first]
    assert table["key"].tolist()[4 : 4 + len(missing)] == missing
    assert table["key"].is_unique
    assert table["nested_score"].notna().all()
    assert table["nested_score"].tolist() == pytest.approx((0.9 * table["score"]).tolist())


def test_no_candidate_is_dominated_by_a_map_that_was_passed_over(bench) -> None:
    search = nested(bench)
    search.run()
    table = table_of(bench.search(4, nested=search))
    looked_at = {SPACE.rank_map(trial.params).key: trial.values for trial in search.scores.optuna_study.trials}
    passed_over = looked_at.keys() - set(table["key"])
    for score, parameters in (looked_at[key] for key in table["key"]):
        assert not any(looked_at[key][0] > score and looked_at[key][1] <= parameters for key in passed_over)


def kinds_of(study) -> list[str]:
    """Kinds of all trials that are no baselines."""
    return [kind for kind in table_of(study)["kind"] if kind != "baseline:uniform"]


def test_scores_that_mislead_give_way_to_the_sampler(bench) -> None:
    search = nested(bench, Scorer(twist=lambda score: -score))
    search.run()
    study = bench.search(16, nested=search)
    assert kinds_of(study) == ["confirm"] * 6 + ["search"] * 6
    assert search.misleads(bench.handle().trials())


def test_scores_that_do_not_mislead_last_until_there_are_no_more(bench) -> None:
    search = nested(bench, evaluations=10)
    search.run()
    assert kinds_of(bench.search(16, nested=search)) == ["confirm"] * 6 + ["search"] * 6
    assert not search.misleads(bench.handle().trials())


def test_killed_search_goes_on_where_it_was(bench, tmp_path) -> None:
    expected = nested(bench)
    expected.run()
    other = Bench(_folder(tmp_path, "other"))
    for kill in (3, 9, 5):
        with pytest.raises(Killed):
            nested(other, Scorer(killed_at=kill)).run()
    resumed = nested(other)
    resumed.run()
    assert scores(resumed) == scores(expected)
    again = Scorer()
    nested(other, again).run()
    assert again.trained == 0
    assert again.scored == []


def test_maps_are_scored_in_packs(bench) -> None:
    search = nested(bench, pack=4)
    search.run()
    assert len(search.scores.optuna_study.trials) == 30
    assert all(trial.state == TrialState.COMPLETE for trial in search.scores.optuna_study.trials)
    assert search.scores.cost["evaluations"] == 30
    assert search.scores.cost["scoring_seconds"] >= 0


def test_sampler_that_starts_from_nested_scores_takes_over_once_they_have_told(bench) -> None:
    search = nested(bench)
    search.run()
    assert kinds_of(bench.search(16, nested=search, sampler="nehvi")) == ["confirm"] * 6 + ["search"] * 6


def test_score_that_is_not_finite_is_no_candidate(bench) -> None:
    search = nested(bench, Scorer(twist=lambda score: math.nan if score > 0.3 else score))
    search.run()
    assert kinds_of(bench.search(10, nested=search)) == ["confirm"] * 6
    assert search.score_of(SPACE.uniform(4)) is None


def test_study_beside_is_no_study_of_its_own(bench) -> None:
    nested(bench).run()
    bench.search(4)
    assert Study.find(bench.folder).name == "small"


@pytest.mark.parametrize("moment", ["enqueue_trial", "ask"])
def test_kill_between_two_writes_changes_nothing(bench, tmp_path, monkeypatch, moment) -> None:
    """After some of the first maps are enqueued; after a trial is begun, before its ranks are drawn."""
    expected = nested(bench)
    expected.run()
    other = Bench(_folder(tmp_path, "other"))
    broken = nested(other)
    whole, calls = getattr(broken.scores.optuna_study, moment), []

    def killed(*arguments, **options):
        calls.append(arguments)
        made = whole(*arguments, **options)
        if len(calls) == 3:
            raise Killed
        return made

    monkeypatch.setattr(broken.scores.optuna_study, moment, killed)
    with pytest.raises(Killed):
        broken.run()
    resumed = nested(other)
    resumed.run()
    assert scores(resumed) == scores(expected)


def test_supernet_that_fails_stops_the_search_in_one_line(bench) -> None:
    class Failing(Scorer):
        def train(self, seed, data_seed, on_step) -> None:
            raise TrainingFailed("the supernet's loss is nan at step 3")

    with pytest.raises(SearchStopped, match=r"loss is nan at step 3; lower training\.learning_rate"):
        nested(bench, Failing()).run()
