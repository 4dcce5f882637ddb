"""Headless Chromium, cut off from every network, with a report's page open in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Route, sync_playwright


def chromium() -> str | None:
    """Debian's, or what else is called so."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def started() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it did that it should not."""

    page: Page
    asked: list[str] = field(default_factory=list)  # addresses, but for its own
    said: list[str] = field(default_factory=list)  # on the console

    def point(self, number: int) -> Locator:
        """The mark of a trial in the front's figure."""
        place = self.page.evaluate(
            """number => {
              const marks = [];
              for (const trace of document.getElementById("pareto").calcdata) {
                for (const point of trace) {
                  if (trace[0].trace.customdata) marks.push(trace[0].trace.customdata[point.i]);
                }
              }
              return marks.indexOf(number);
            }""",
            number,
        )
        return self.page.locator("#pareto .scatterlayer .points path.point").nth(place)


@contextmanager
def opened(
    browser: Browser, path: Path, *, width: int = 1280, scheme: str = "light", script: bool = True
) -> Iterator[Opened]:
    """Opens a file; whatever it asks for beside itself is refused, and told of."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=script,
        permissions=["clipboard-read", "clipboard-write"],
    )
    found = Opened(context.new_page())

    def only_itself(route: Route) -> None:
        if route.request.url.split("#")[0] == path.as_uri():
            route.continue_()
        else:
            found.asked.append(route.request.url)
            route.abort()

    context.route("**/*", only_itself)
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.goto(path.as_uri())
    yield found
    context.close()
