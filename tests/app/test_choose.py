import dataclasses

import pytest

from rank_search.app.choose import choose_map, export_command, find_trial
from rank_search.core.choice import Rule
from rank_search.core.errors import InputError, RankSearchError, TrainingFailed
from tests.bench import Landscape


@pytest.mark.slow
def test_rule_chooses_and_explains_if_asked(bench) -> None:
    study = bench.search(6)
    best, silent = choose_map(bench.handle(), Rule("best"))
    assert best.score == max(trial.values[0] for trial in study.trials)
    assert silent == []
    again, explanation = choose_map(bench.handle(), Rule("best"), explained=True)
    assert again.number == best.number
    assert all(explanation)
    with pytest.raises(RankSearchError, match="no map meets min-score=9"):
        choose_map(bench.handle(), Rule("min-score", 9.0))


def test_only_complete_trials_are_found(bench) -> None:
    study = bench.search(4, Landscape({2: TrainingFailed("boom")}))
    assert find_trial(bench.handle(), 1).score == study.trials[1].values[0]
    for number in (2, 99):
        with pytest.raises(InputError, match=f"--trial: {number} is not a complete trial of 'small'; see status"):
            find_trial(bench.handle(), number)


def test_export_command_trains_again_only_what_was_not_kept(bench) -> None:
    bench.search(6)
    trial, _ = choose_map(bench.handle(), Rule("best"))
    folder = bench.folder
    line = f"python -m rank_search export {folder.path} --rule best --to peft --out adapter"
    if folder.adapter(trial.number).is_dir():
        (folder.adapter(trial.number)).rename(folder.path / "moved")
    assert export_command(bench.handle(), trial, "best") == f"{line} --retrain"
    folder.adapter(trial.number).mkdir(parents=True)
    assert export_command(bench.handle(), trial, "best") == line
    away = export_command(dataclasses.replace(bench.handle(), storage="postgresql://x"), trial, "best")
    assert away == line.replace(" --rule", " --storage URL --rule")


def test_untrained_model_is_not_exported(bench) -> None:
    study = bench.search(6)
    untrained = next(trial for trial in study.trials if trial.values[1] == 0)
    assert export_command(bench.handle(), find_trial(bench.handle(), untrained.number), "best") is None
