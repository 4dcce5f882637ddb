"""The pictures of README and docs/, of the demo's report, and its notebook; `make pictures` runs the demo before."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "reports" / "demo"
HEIGHT = 1500  # of what is shown of the page


def main() -> None:
    """Writes figures, the page in light and dark, wide and narrow, its table of rivals, and what the notebook shows."""
    run_notebook(ROOT / "docs" / "notebook.ipynb")
    shutil.copy(REPORT / "pareto.png", ROOT / "docs" / "demo-front.png")
    shutil.copy(REPORT / "rank_heatmap.png", ROOT / "docs" / "demo-ranks.png")
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
                page.goto((REPORT / "index.html").as_uri())
                number = page.evaluate("data.front.at(-2)")  # to stand beside the chosen map
                page.locator(f"#trials tr[data-trial='{number}'] button").click()
                page.evaluate("scrollTo(0, 0)")
                page.wait_for_timeout(500)
                page.screenshot(path=ROOT / "docs" / "page" / f"{scheme}-{width}.png")
                page.close()
        page = browser.new_page(viewport={"width": 1280, "height": HEIGHT})
        page.goto((REPORT / "index.html").as_uri())
        rivals = page.get_by_role("heading", name="The chosen map and its rivals").locator("xpath=following::table[1]")
        rivals.screenshot(path=ROOT / "docs" / "page" / "rivals.png")
        browser.close()


def run_notebook(path: Path) -> None:
    """Runs a notebook where it lies, and keeps what it shows."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # warnings name paths of this machine
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
