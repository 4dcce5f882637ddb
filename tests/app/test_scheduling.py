"""What the schedule of a study is made of; the schedule itself is tested in tests/search/."""

import pytest

from rank_search.app.choose import choose_map
from rank_search.app.scheduling import make_schedule
from rank_search.core.choice import DEFAULT_RULE, Rule
from rank_search.core.errors import InputError
from rank_search.core.rank_curve import RankCurve
from tests.bench import SPACE, Landscape, study_config


def test_without_an_executor_it_says_what_is_missing(bench) -> None:
    bench.search(5)
    study = bench.handle()
    trials = study.trials()
    assert make_schedule(study, study_config(search={"trials": 5})).is_done(trials)
    more = make_schedule(study, study_config(search={"trials": 6}))
    assert not more.is_done(trials)
    assert more.wants_proposal(trials)
    with_baselines = make_schedule(study, study_config(search={"trials": 5, "baselines": ["svd"]}))
    assert not with_baselines.is_done(trials)
    assert with_baselines.spectrum(4) == {}


def test_a_spectrum_is_of_a_trials_adapter_as_it_was_trained(bench) -> None:
    bench.search(5)
    study, executor = bench.handle(), Landscape()
    schedule = make_schedule(study, study_config(), executor)
    number = max(study.folder.adapters())
    assert schedule.spectrum(number) == executor.spectrum(study.folder.adapter(number))
    result = study.folder.read_result(number)
    study.folder.write_result(number, {**result, "adapter": {"adapter_model.safetensors": "0" * 64}})
    with pytest.raises(InputError, match="is not what was trained: it was edited, damaged or removed; restore it"):
        schedule.spectrum(number)


def test_a_study_without_scores_has_no_chosen_map(bench) -> None:
    schedule = make_schedule(bench.open(), study_config())
    assert schedule.findings.chosen_parameters() is None
    assert schedule.findings.front_probability() == {}


@pytest.mark.slow
def test_it_asks_the_analysis_what_is_likely_and_chosen_now(bench) -> None:
    study = bench.open()
    schedule = make_schedule(study, study_config())
    bench.search(5)
    likely = schedule.findings.front_probability()
    assert set(likely) == {trial.number for trial in study.trials()}
    assert all(0 <= probability <= 1 for probability in likely.values())
    chosen, _ = choose_map(study, Rule.parse(DEFAULT_RULE))
    assert schedule.findings.chosen_parameters() == chosen.trainable_parameters
    assert likely[chosen.number] > 0


def test_the_prior_of_the_study_file_comes_after_the_uniform_maps(bench, tmp_path) -> None:
    prior = SPACE.rank_map(dict(zip(SPACE.dimensions, (3, 3, 1, 1), strict=True)))
    (tmp_path / "curve.json").write_text(RankCurve.from_rank_map(prior).to_json([]))
    bench.search(4)
    study = bench.handle()
    config = study_config(space={"prior": str(tmp_path / "curve.json")})
    request = make_schedule(study, config).first(study.trials())
    assert request is not None
    assert request.candidate.rank_map == prior
    assert request.kind == "search"
    without = make_schedule(study, study_config()).first(study.trials())
    assert without is not None
    assert without.kind == "baseline:family"
