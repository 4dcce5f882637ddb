"""The Python API, on a study that was searched before."""

import json

import pytest

import rank_search
from rank_search.core.errors import InputError, RankSearchError, TrainingFailed
from tests.bench import SPACE, Landscape
from tests.conftest import in_process

pytestmark = pytest.mark.slow


@pytest.fixture
def loaded(bench):
    """The study, found by its path as from a script elsewhere."""
    bench.search(12)
    return rank_search.load(str(bench.folder.path))


def test_tables_are_those_of_the_study(loaded, bench) -> None:
    study = bench.study()
    assert loaded.trials["score"].tolist() == [trial.values[0] for trial in study.trials]
    assert set(loaded.front["number"]) == {trial.number for trial in study.best_trials}
    assert set(loaded.front["number"]) <= set(loaded.maps["number"])


@pytest.mark.parametrize("rule", ["within-one-se", "best", "knee", "max-parameters=100", "min-score=0.3"])
def test_choice_is_that_of_the_command_line(loaded, bench, rule) -> None:
    status, out, _ = in_process("choose", str(bench.folder.path), "--rule", rule, "--json")
    assert status == 0
    assert loaded.choose(rule).ranks == json.loads(out)["ranks"]


def test_maps_of_trials(loaded) -> None:
    assert loaded.chosen == loaded.choose()
    number = int(loaded.front["number"].iloc[0])
    assert loaded.rank_map(number).ranks == loaded.front["ranks"].iloc[0]
    assert set(loaded.chosen.ranks) == set(SPACE.shapes)
    with pytest.raises(InputError, match="99 is no trial of 'small'"):
        loaded.rank_map(99)


def test_figures_by_name(loaded, tmp_path) -> None:
    loaded.figure().savefig(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000
    assert loaded.figure("losses").axes[0].get_xlabel() == "step"
    with pytest.raises(InputError, match=r"'parto' is no figure; did you mean 'pareto'\?"):
        loaded.figure("parto")


def test_notebooks_show_them(loaded) -> None:
    shown = loaded._repr_html_()
    assert loaded.verdict in shown.replace("&#x27;", "'")
    for number in loaded.front["number"]:
        assert f"<td>{number}</td>" in shown
    assert "<td>layer.0.w</td>" in loaded.chosen._repr_html_()


def test_what_is_not_there_is_told(tmp_path, bench) -> None:
    with pytest.raises(InputError, match="no study"):
        rank_search.load(str(tmp_path / "none"))
    bench.search(1, Landscape({0: TrainingFailed("x")}))
    with pytest.raises(RankSearchError, match="no trial of the study has a score yet"):
        rank_search.load(str(bench.folder.path))
