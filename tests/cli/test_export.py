"""``export``: which trial it takes; what it writes is tested in tests/export/."""

import json

import pytest

from tests.conftest import in_process

pytestmark = pytest.mark.slow


@pytest.fixture
def study(bench, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    bench.search(6)
    return str(bench.folder.path)


@pytest.mark.parametrize("trial", [None, 3])
def test_map_of_a_rule_or_of_a_trial(study, bench, tmp_path, trial) -> None:
    _, chosen, _ = in_process("choose", study, "--rule", "best", "--json")
    number = json.loads(chosen)["trial"] if trial is None else trial
    options = ("--rule", "best") if trial is None else ("--trial", str(trial))
    status, out, said = in_process("export", study, "--to", "rank-map", "--out", "out", *options)
    assert (status, said) == (0, "")
    assert out.splitlines()[0] == f"trial {number} as rank-map: out"
    assert any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--trial", "99"), "--trial: 99 is not a complete trial of 'small'; see status"),
        (("--to", "pefd"), "--to: 'pefd' is no format; did you mean 'peft'?"),
        (("--out", "."), "--out: "),
        (("--rule", "kneee"), "--rule: 'kneee' is no rule"),
    ],
)
def test_wrong_options(study, options, line) -> None:
    status, out, said = in_process("export", study, "--to", "rank-map", "--out", "out", *options)
    assert (status, out) == (2, "")
    assert said.startswith(f"rank_search: {line}")
    assert len(said.splitlines()) == 1


def test_training_again_is_asked_for_by_an_option(study, monkeypatch) -> None:
    consoles = []

    def export(*_arguments, retrain_on, **_options):
        consoles.append(retrain_on)
        return ["read by PEFT"]

    monkeypatch.setattr("rank_search.app.export.export_trial", export)
    line = ("export", study, "--to", "peft", "--out", "out", "--trial", "1")
    assert in_process(*line) == (0, "trial 1 as peft: out\n  read by PEFT\n", "")
    in_process(*line, "--retrain")
    assert consoles[0] is None
    assert consoles[1].stderr
