"""What a run shows, and how long it says that it will take."""

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from rank_search.app import display as displays
from rank_search.app.display import Display, front_plot
from rank_search.app.time_left import Workload, seconds_left

WORK = Workload(trials=11, eva=1, adalora=2, scored=3, verdict=4, measured=5, test_size=2, head=False)


def only(trials, scored=0, verdict=0) -> Workload:
    return Workload(trials, 0, 0, scored, verdict, measured=0, test_size=1, head=False)


def trial(seconds, parameters=10, state=TrialState.COMPLETE, **attributes):
    values = [0.5, parameters] if state == TrialState.COMPLETE else None
    given = {"seconds": seconds, **attributes} if seconds is not None else attributes
    return create_trial(state=state, values=values, user_attrs=given)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("trained", trial(1)),
        ("scored", trial(1, parameters=0)),
        ("scored", trial(1, recipe="truncated")),
        ("eva", trial(1, kind="baseline:eva")),
        ("adalora", trial(1, kind="baseline:adalora")),
        ("trained", trial(1, state=TrialState.PRUNED)),
    ],
)
def test_kinds(kind, made) -> None:
    assert WORK.kind(made) == kind


def test_a_head_is_trained_at_rank_0_too() -> None:
    assert replace(WORK, head=True).kind(trial(1, parameters=0)) == "trained"


def test_nothing_is_said_before_a_training() -> None:
    assert seconds_left(WORK, []) is None
    assert seconds_left(WORK, [trial(1, parameters=0)]) is None


def test_time_left_is_what_each_kind_has_taken() -> None:
    known = [trial(10), trial(20), trial(2, parameters=0), trial(40, kind="baseline:adalora")]
    of_trials = 3 * 15 + 15 + 1 * 40 + 2 * 2  # 5 trained, 1 of EVA's, 2 of AdaLoRA's and 3 scored in all
    on_test = 2 * 2  # seconds, of a split twice as large
    assert seconds_left(WORK, known) == of_trials + 4 * (15 - 2 + on_test) + 5 * on_test


def test_the_search_for_ranks_of_eva_is_not_expected_of_others() -> None:
    known = [trial(10), trial(100, kind="baseline:eva")]
    assert seconds_left(WORK, known) == seconds_left(WORK, known[:1]) - 10


def test_what_was_not_seen_yet_is_guessed_from_a_training() -> None:
    assert seconds_left(WORK, [trial(10)]) == pytest.approx(4 * 10 + 10 + 2 * 16 + 3 * 3 + 4 * (7 + 6) + 5 * 6)


def test_failed_and_surplus_trials_leave_nothing_to_do() -> None:
    failed = [trial(None, state=TrialState.FAIL) for _ in range(4)]
    assert seconds_left(only(5), [trial(10), *failed]) == 0
    assert seconds_left(only(1), [trial(10), trial(10)]) == 0
    assert seconds_left(only(2), [trial(10), trial(None, state=TrialState.RUNNING)]) == 10


@pytest.fixture
def shown(bench, monkeypatch):
    """A display on a terminal whose clock is ours, of a study of two trials so far; and what it shows."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(displays, "time", SimpleNamespace(monotonic=lambda: clock.now))
    study = bench.search(4)
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    made = Display(console, study, only(8, 1, 2), steps=10)

    def text() -> str:
        with console.capture() as captured:
            console.print(made.shown())
        return captured.get()

    return SimpleNamespace(display=made, clock=clock, text=text, bench=bench)


def test_packs_in_training_are_shown_until_they_are_done(shown) -> None:
    shown.display.pack_started([4, 5], 1234)
    shown.display.step([4, 5], 3, 0.8125)
    assert "in training: 4, 5" in shown.text()
    assert "1,234 parameters" in shown.text()
    assert "step 3 of 10" in shown.text()
    assert "loss 0.812" in shown.text()
    study = shown.bench.search(6)
    shown.display.trial_finished(study, 4)
    assert "in training" not in shown.text()
    assert "6/8" in shown.text()


def test_time_left_is_by_this_runs_clock(shown) -> None:
    assert "left" not in shown.text()
    shown.display.pack_started([4], 1)
    study = shown.bench.search(5)
    (told,) = study.trials[4:]
    shown.clock.now = 1000 * told.user_attrs["seconds"] * 60  # a thousand minutes of the wall for a minute of training
    shown.display.trial_finished(study, 4)
    seconds = seconds_left(only(8, 1, 2), study.trials)
    minutes = seconds * 1000
    assert f"about {minutes:.0f} min left" in shown.text()
    shown.clock.now += 60 * (minutes - 3)
    assert "about 3 min left" in shown.text()
    shown.clock.now += 6000
    assert "about 1 min left" in shown.text()


def test_the_pace_of_the_verdict_tells_its_end(shown) -> None:
    """A run that goes on in its verdict, of which two trainings of six were done before."""
    shown.display.verdict(2, 6)
    assert "left" not in shown.text()
    shown.clock.now += 600
    shown.display.verdict(4, 6)
    assert "verdict: fresh training 4 of 6" in shown.text()
    assert "about 10 min left" in shown.text()


def test_front_is_drawn_in_characters() -> None:
    front = [create_trial(values=values) for values in ([0.7, 1000], [0.75, 10_000], [0.8, 1e6])]
    drawn = front_plot(front)
    assert drawn.count("o") >= 3
    assert "(parameters)" in drawn
    assert "0.7" in drawn
    lines = drawn.splitlines()
    columns = [(row, line.index("o", 12)) for row, line in enumerate(lines[:-3]) if "o" in line[12:]]
    assert [column for _, column in sorted(columns, reverse=True)] == sorted(column for _, column in columns)


def test_log_files_get_a_line_for_each_trial(bench) -> None:
    study = bench.search(3)
    said = io.StringIO()
    with Display(Console(file=said, width=200), study, WORK, steps=3) as made:
        made.trial_finished(study, 2)
        made.waiting("waiting for others")
        made.waiting("waiting for others")
        made.verdict(1, 2)
        made.verdict(2, 2)
    first, *rest = said.getvalue().splitlines()
    assert first.startswith("trial 3/11: 0.")
    assert rest == ["waiting for others", "verdict: fresh training 2 of 2"]
