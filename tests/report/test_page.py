"""The page, as a reader uses it: in a browser, offline."""

import math
import re
import shlex
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe

from rank_search.analysis.choice import choose
from rank_search.core.choice import Rule
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.report.folder import ReportFolder
from rank_search.report.marks import MARKS
from rank_search.report.page import write_page, write_report
from tests.bench import Bench, Landscape, StudyFolder
from tests.browser import opened
from tests.conftest import in_process
from tests.report.conftest import measured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A study of forty maps with all baselines, some repeated, with its summary, and its report beside it."""
    home = tmp_path_factory.mktemp("home")
    folder = StudyFolder(home / "studies" / "small")
    folder.path.mkdir(parents=True)
    Bench(folder).search(40, baselines=["svd", "eva", "adalora"], repeats=6)
    out = home / "reports" / "small"
    folder.write_test(*measured(write_report(Bench(folder).handle(), out)))
    return home, write_report(Bench(folder).handle(), out)


@pytest.fixture
def page(browser, reported):
    """The page; it asks for nothing, and complains about nothing."""
    with opened(browser, reported[0] / "reports" / "small" / "index.html") as found:
        yield found
    assert (found.asked, found.said) == ([], [])


def alone(summary) -> int:
    """A map of the front, other than the chosen one, whose mark no other one hides."""
    places = summary.trials[["score", "trainable_parameters"]]
    hidden = set(summary.trials["number"][places.duplicated(keep=False)])
    return next(n for n in reversed(summary.front["number"].tolist()) if n not in {*hidden, summary.chosen.number})


def chosen(page) -> int:
    return int(re.match(r"trial (\d+):", page.page.locator("#choice").text_content()).group(1))


def slide(page, name: str, step: int) -> None:
    page.page.locator(f"#{name}").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input')); }", step
    )


def rule_shown(page) -> str:
    return page.page.locator("#choose-command").text_content().rpartition(" ")[2]


def test_every_map_and_baseline_is_a_mark(page, reported) -> None:
    summary = reported[1]
    adapted = (summary.maps["trainable_parameters"] > 0).sum()
    assert page.page.locator("#pareto .scatterlayer .points path.point").count() == adapted
    legend = page.page.locator("#pareto .legendtext").all_text_contents()
    kinds = set(summary.maps["kind"])
    assert legend == [mark.label for kind, mark in MARKS.items() if kind in kinds] + ["front"]


def test_pointing_at_a_map_shows_its_ranks(page, reported) -> None:
    number = alone(reported[1])
    page.point(number).hover(force=True)
    assert page.page.locator("#tip b").text_content() == f"trial {number}"
    assert page.page.locator("#tip .strip span").count() == 4
    page.page.mouse.move(1, 1)
    page.page.locator("#tip").wait_for(state="hidden")


def test_click_pins_a_map_beside_its_rivals(page, reported) -> None:
    summary = reported[1]
    rows = summary.maps.set_index("number")
    pinned, choice = alone(summary), summary.chosen.number
    page.point(pinned).click(force=True)
    titles = page.page.locator("#maps h3").all_text_contents()
    assert titles[:2] == [f"trial {pinned}, pinned", f"trial {choice}, chosen"]
    cells = page.page.locator("#maps table").nth(0).locator("td:not(:empty)").all_text_contents()
    assert [int(cell) for cell in cells] == list(rows["ranks"][pinned].values())
    for cell, rank, other in zip(
        page.page.locator("#maps table").nth(1).locator("td:not(:empty)").all_text_contents(),
        rows["ranks"][choice].values(),
        rows["ranks"][pinned].values(),
        strict=True,
    ):
        difference = f" {other - rank:+d}".replace("-", "−") if other != rank else ""
        assert cell == f"{rank}{difference}"
    assert f"--trial {pinned} " in page.page.locator("#export-command").text_content()
    page.page.reload()  # what is pinned stays
    assert page.page.locator("#maps h3").first.text_content() == f"trial {pinned}, pinned"
    page.page.locator("#unpin").click()
    assert page.page.locator("#maps h3").first.text_content() == f"trial {choice}, chosen"


def test_uniform_map_of_no_more_parameters_stands_beside(page, reported) -> None:
    summary = reported[1]
    uniform = summary.maps[(summary.maps["kind"] == "baseline:uniform") & (summary.maps["trainable_parameters"] > 0)]
    number = int(summary.maps.sort_values("trainable_parameters")["number"].iloc[-2])
    price = summary.maps.set_index("number")["trainable_parameters"][number]
    best = uniform[uniform["trainable_parameters"] <= price].sort_values("score")["number"].iloc[-1]
    page.page.locator(f"#trials tr[data-trial='{number}'] button").click()
    titles = page.page.locator("#maps h3").all_text_contents()
    assert f"trial {best}, best uniform of no more parameters" in titles


@pytest.mark.parametrize("name", ["max-parameters", "min-score"])
def test_sliders_choose_as_the_rules_do(page, reported, name) -> None:
    found = set()
    for step in range(0, 401, 20):
        slide(page, name, step)
        rule = rule_shown(page)
        assert rule.startswith(f"{name}=")
        assert chosen(page) == choose(reported[1].evidence, Rule.parse(rule)).number
        assert page.page.locator(f"input[value={name}]").is_checked()
        found.add(chosen(page))
    assert found > {min(found)}
    ends = reported[1].front["number"].iloc[[0, -1]].tolist()
    assert set(ends) <= found


@pytest.mark.parametrize("rule", ["within-one-se", "best", "knee"])
def test_other_rules_choose_as_choose_does(page, reported, rule) -> None:
    page.page.locator(f"input[value={rule}]").check()
    assert chosen(page) == choose(reported[1].evidence, Rule.parse(rule)).number


def test_copied_command_chooses_what_the_page_shows(page, reported, monkeypatch) -> None:
    monkeypatch.chdir(reported[0])
    slide(page, "max-parameters", 150)
    page.page.locator("button[data-copy=choose-command]").click()
    copied = page.page.evaluate("navigator.clipboard.readText()")
    assert copied == page.page.locator("#choose-command").text_content()
    status, out, _ = in_process(*shlex.split(copied)[3:])
    assert status == 0
    shown = page.page.locator("#choice").text_content()
    assert re.sub(r" \(.*?\)", "", out.splitlines()[0]) == shown
    page.page.locator("button[data-copy=export-command]").click()
    assert out.splitlines()[-1] == f"to export it: {page.page.evaluate('navigator.clipboard.readText()')}"


def test_table_says_of_every_trial_what_it_is(page, reported) -> None:
    trials, maps = reported[1].trials, reported[1].maps
    sure = dict(zip(maps["number"], maps["front_probability"], strict=True))
    rows = page.page.locator("#trials tbody tr")
    cells = [[cell.strip() for cell in row.split("\t")] for row in rows.all_inner_texts()]
    assert len(cells) == len(trials)
    for row, trial in zip(cells, trials.to_dict(orient="records"), strict=True):
        outside = not trial["in_space"]
        assert row[1] == (trial["label"] if outside else trial["kind"])
        if trial["number"] in sure:
            assert row[8].removesuffix(" ✓") == f"{sure[trial['number']]:.2f}"
        assert (row[8] == "") == math.isnan(trial["front_probability"])
        assert row[9] == ""


def test_least_score_is_reached_by_the_best_map(page) -> None:
    """Rounded down even where the product of the rounding is rounded up."""
    bounds = page.page.evaluate(
        """scores => scores.map((best) => {
          front.at(-1).score = best;
          return Number(leastScoreAt(STEPS)) <= best;
        })""",
        [0.8524999999999999, 0.9349999999999999, 0.9099999999999999, -1.25, 0.8],
    )
    assert bounds == [True] * 5


def test_budgets_begin_with_the_smallest_map_that_has_parameters(page, reported) -> None:
    prices = reported[1].front["trainable_parameters"].tolist()
    assert prices[0] == 0
    budgets = [page.page.evaluate(f"budgetAt({step})") for step in (0, 1, 200, 400)]
    assert budgets[:2] == prices[:2]
    assert budgets[3] == prices[-1]
    assert budgets == sorted(budgets)


def test_commands_name_the_study_and_say_what_it_takes(browser, reported, tmp_path) -> None:
    summary = reported[1]
    dear = int(summary.maps["trainable_parameters"].idxmax())
    number = int(summary.maps["number"][dear])
    forgetful = replace(summary, kept={entry for entry in summary.kept if entry != number})
    write_page(forgetful, ReportFolder(tmp_path, "small"), "elsewhere/small --storage URL", None)
    with opened(browser, tmp_path / "index.html") as found:
        assert "choose elsewhere/small --storage URL --rule" in found.page.locator("#choose-command").text_content()
        found.page.locator(f"#trials tr[data-trial='{number}'] button").click()
        export = found.page.locator("#export-command")
        assert export.text_content().endswith(f"--storage URL --trial {number} --to peft --out adapter --retrain")
        untrained = int(summary.maps.query("trainable_parameters == 0")["number"].iloc[0])
        found.page.locator(f"#trials tr[data-trial='{untrained}'] button").click()
        assert not export.is_visible()
        assert found.page.locator("#no-weights").is_visible()


def test_ranks_of_many_kinds_of_module_are_within_reach(browser, tmp_path) -> None:
    """Wider than a narrow screen: it scrolls, by the keyboard too."""
    kinds = [f"attention.projection_{i}" for i in range(14)]
    shapes = {f"model.layers.{layer}.{kind}": Shape(8, 8) for layer in range(3) for kind in kinds}
    space = Space(shapes, {name: (name,) for name in shapes}, (0, 1, 2, 4))
    folder = StudyFolder(tmp_path / "wide")
    folder.path.mkdir()
    Bench(folder).search(6, Landscape(weights=(0.5,) * len(shapes)), space)
    write_report(Bench(folder).handle(space), tmp_path / "report")
    with opened(browser, tmp_path / "report" / "index.html", width=390) as found:
        table = found.page.locator("#maps table").first
        assert table.locator("tbody tr").count() == 3
        assert table.locator("thead th").all_text_contents() == kinds
        assert found.page.evaluate("document.documentElement.scrollWidth") <= 390
        findings = Axe().run(found.page).response["violations"]
        assert [entry["id"] for entry in findings if entry["impact"] in ("serious", "critical")] == []


def test_table_sorts(page, reported) -> None:
    scores = page.page.locator("#trials tbody tr td:nth-child(5)")
    head = page.page.locator("#trials thead th:nth-child(5)")
    for order in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [float(text) for text in scores.all_text_contents() if text]
        assert values == sorted(values, reverse=order == "descending")
    page.page.locator("#trials thead th:nth-child(7) button").click()
    prices = page.page.locator("#trials tbody tr td:nth-child(7)").all_text_contents()
    values = [int(text.replace(",", "")) for text in prices if text]
    assert values == sorted(values)


def test_losses_of_a_pinned_map_are_drawn(page, reported) -> None:
    number = next(n for n in reported[1].front["number"] if n not in {entry.trial for entry in reported[1].compared})
    page.page.locator(f"#trials tr[data-trial='{number}'] button").click()
    assert f"trial {number}" in page.page.locator("#losses .legendtext").all_text_contents()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_accessible_and_fits(browser, reported, scheme, width) -> None:
    with opened(browser, reported[0] / "reports" / "small" / "index.html", width=width, scheme=scheme) as found:
        number = int(reported[1].front["number"].iloc[-1])
        found.page.locator(f"#trials tr[data-trial='{number}'] button").click()
        findings = Axe().run(found.page).response["violations"]
        assert [entry["id"] for entry in findings if entry["impact"] in ("serious", "critical")] == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_figures_and_tables_are_there(browser, reported) -> None:
    with opened(browser, reported[0] / "reports" / "small" / "index.html", script=False) as found:
        pictures = found.page.locator("figure img")
        assert pictures.count() == 7
        for picture in pictures.all():
            assert picture.is_visible()
            assert picture.bounding_box()["height"] > 100
        assert found.page.locator("#trials tbody tr").count() == len(reported[1].trials)
        assert not found.page.locator("#choose-command").is_visible()
        assert found.asked == []


def test_page_is_one_small_file(reported) -> None:
    page = reported[0] / "reports" / "small" / "index.html"
    assert page.stat().st_size < 6_000_000


def test_page_of_a_running_study_loads_itself_anew(browser, reported, tmp_path) -> None:
    summary, path = reported[1], tmp_path / "page" / "index.html"
    path.parent.mkdir()
    write_page(summary, ReportFolder(tmp_path / "page", "small"), "small", 1)
    with opened(browser, path) as found:
        number = alone(summary)
        found.page.locator(f"#trials tr[data-trial='{number}'] button").click()
        write_page(replace(summary, name="renamed"), ReportFolder(tmp_path / "page", "small"), "small", None)
        found.page.get_by_role("heading", name="renamed").wait_for()
        assert found.page.locator("#maps h3").first.text_content() == f"trial {number}, pinned"
        assert (found.asked, found.said) == ([], [])
