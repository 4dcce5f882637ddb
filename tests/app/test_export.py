"""When a trial is trained again; what is written is tested in tests/export/."""

import pytest
from rich.console import Console

from rank_search.app.choose import find_trial
from rank_search.app.export import export_trial
from rank_search.core.errors import RankSearchError


@pytest.fixture
def study(bench, monkeypatch):
    """A study; formats that need weights ask for them, and write nothing."""

    def write_export(choice, form, out, *, force, retrain):
        if retrain is None:
            raise RankSearchError("no saved adapter")
        retrain()
        return [f"trial {choice.trial.number} of {choice.study} as {form}"]

    monkeypatch.setattr("rank_search.app.export.write_export", write_export)
    bench.search(6)
    return bench.handle()


def test_trial_is_trained_again_only_on_a_console(bench, study, tmp_path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        "rank_search.app.retrain.retrain", lambda *arguments, **options: calls.append((arguments, options))
    )
    trial, console = find_trial(study, 4), Console()
    with pytest.raises(RankSearchError, match="no saved adapter"):
        export_trial(study, trial, "peft", tmp_path / "out")
    assert calls == []
    lines = export_trial(study, trial, "peft", tmp_path / "out", retrain_on=console)
    assert lines == ["trial 4 of small as peft"]
    assert calls == [((study, 4, console), {"trust_code": False})]
    export_trial(study, trial, "peft", tmp_path / "out", retrain_on=console, trust_code=True)
    assert calls[-1] == ((study, 4, console), {"trust_code": True})
