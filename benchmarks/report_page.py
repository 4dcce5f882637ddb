"""How the report's page bears a large study: seconds to write it, its size, milliseconds from a pick to its picture.

    python benchmarks/report_page.py              # 2,000 trials of 168 dimensions; a minute

The study's rows are put straight into Optuna's tables; all else is the real code, in headless Chromium. A pick is a
pinned map or a moved slider, measured from the call to the second frame after it, when the browser has drawn it.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer
from playwright.sync_api import sync_playwright
from scale import study_of

from rank_search.report.page import write_report
from rank_search.study.handle import Study
from rank_search.study.metadata import environment

OUT = Path("reports/benchmarks/report_page.json")
GOALS = {"megabytes": 10, "report_seconds": 30, "pick_milliseconds": 150}
_MEASURED = """async (picks) => {
  const frame = () => new Promise(requestAnimationFrame);
  const found = {pin: [], budget: [], score: []};
  const timed = async (into, pick) => {
    await frame();
    const started = performance.now();
    pick();
    await frame();
    await frame();
    into.push(performance.now() - started);
  };
  for (let i = 0; i < picks; i++) {
    await timed(found.pin, () => pin(data.maps[Math.floor(i * data.maps.length / picks)].number));
    await timed(found.budget, () => { byId("max-parameters").value = i * 400 / picks; slide("max-parameters"); });
    await timed(found.score, () => { byId("min-score").value = i * 400 / picks; slide("min-score"); });
  }
  return found;
}"""


def main(
    trials: Annotated[int, typer.Option(help="Of the study.")] = 2_000,
    picks: Annotated[int, typer.Option(help="Of each kind.")] = 20,
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
) -> None:
    """Writes the numbers."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with study_of(trials) as (folder, _):
        study = Study.open(str(folder.path))
        study.optuna_study.get_trials(deepcopy=False)  # what takes longest, and is Optuna's, is in reports/scale.md
        started = time.perf_counter()
        write_report(study, folder.path / "report")
        seconds = time.perf_counter() - started
        page = folder.path / "report" / "index.html"
        found: dict[str, Any] = {
            "command": f"python benchmarks/report_page.py --trials {trials}",
            "trials": trials,
            "report_seconds": round(seconds, 1),
            "megabytes": round(page.stat().st_size / 1e6, 2),
            **_in_browser(page, picks),
            "goals": GOALS,
            "environment": environment("cpu"),
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _in_browser(page: Path, picks: int) -> dict[str, Any]:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        shown.goto(page.as_uri())
        loaded = time.perf_counter() - started
        milliseconds = shown.evaluate(_MEASURED, picks)
        version = browser.version
        browser.close()
    return {
        "load_seconds": round(loaded, 2),
        "pick_milliseconds": {name: round(statistics.median(times), 1) for name, times in milliseconds.items()},
        "slowest_pick_milliseconds": round(max(max(times) for times in milliseconds.values()), 1),
        "chromium": version,
    }


if __name__ == "__main__":
    typer.run(main)
