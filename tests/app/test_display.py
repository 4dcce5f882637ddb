"""What a run shows."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from rank_search.app import display as displays
from rank_search.app.display import Display, front_plot
from rank_search.app.time_left import Workload, seconds_left

WORK = Workload(trials=8, eva=0, adalora=0, scored=1, verdict=2, measured=0, test_size=1, head=False)


@pytest.fixture
def shown(bench, monkeypatch):
    """A display on a terminal whose clock is ours, of a study of two trials so far; and what it shows."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(displays, "time", SimpleNamespace(monotonic=lambda: clock.now))
    bench.search(4)
    study = bench.handle()
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    made = Display(console, study, WORK, steps=10)

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
    shown.bench.search(6)
    study = shown.bench.handle()
    shown.display.trial_finished(study, 4)
    assert "in training" not in shown.text()
    assert "6/8" in shown.text()


def test_time_left_is_by_this_runs_clock(shown) -> None:
    assert "left" not in shown.text()
    shown.display.pack_started([4], 1)
    shown.bench.search(5)
    study = shown.bench.handle()
    (last,) = study.trials()[4:]
    shown.clock.now = 1000 * last.attributes.seconds * 60  # a thousand minutes of the wall for a minute of training
    shown.display.trial_finished(study, 4)
    seconds = seconds_left(WORK, study.trials())
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
    drawn = front_plot([(0.7, 1000), (0.75, 10_000), (0.8, 1_000_000)])
    assert "parameters" in drawn
    assert "0.7000" in drawn
    assert "1,000,000" in drawn
    fields = [line.partition("│")[2] for line in drawn.splitlines()]
    columns = [(row, field.index("o")) for row, field in enumerate(fields) if "o" in field]
    assert len(columns) == 3
    assert [column for _, column in sorted(columns, reverse=True)] == sorted(column for _, column in columns)


def test_log_files_get_a_line_for_each_trial(bench) -> None:
    bench.search(3)
    study = bench.handle()
    said = io.StringIO()
    with Display(Console(file=said, width=200), study, WORK, steps=3) as made:
        made.trial_finished(study, 2)
        made.waiting("waiting for others")
        made.waiting("waiting for others")
        made.verdict(1, 2)
        made.verdict(2, 2)
    first, *rest = said.getvalue().splitlines()
    assert first.startswith("trial 3/8: 0.")
    assert rest == ["waiting for others", "verdict: fresh training 2 of 2"]


def test_after_the_ladder_it_says_whether_rank_matters(bench) -> None:
    out = io.StringIO()
    bench.search(3)
    made = Display(Console(file=out, width=200), bench.handle(), WORK, steps=10)
    for trials in (4, 5):
        bench.search(trials)
        made.trial_finished(bench.handle(), trials - 1)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("Rank ")]
    assert len(lines) == 1  # once, when the fourth uniform map is done
    assert "uniform rank" in lines[0]
