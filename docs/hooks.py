"""What mkdocs can't find in docs/: pages written by our own commands, and what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

from rank_search.config.template import template

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
MEASURED = ("reports/*.md", "reports/benchmarks/*", "benchmarks/*.json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and the files that pages link to."""
    generated = {"reference/cli.md": commands(), "reference/study-file.md": study_file()}
    for name, text in generated.items():
        files.append(File.generated(config, name, content=text))
    for pattern in MEASURED:
        for path in sorted(ROOT.glob(pattern)):
            name = str(path.relative_to(ROOT))
            if path.name != "README.md":
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links out of docs/ to what was measured lead to its copy in the site, which is one folder nearer."""
    for folder in ("reports/", "benchmarks/"):
        if not page.file.src_uri.startswith("reports/"):
            climb = "../" * page.file.src_uri.count("/")
            markdown = markdown.replace(f"](../{climb}{folder}", f"]({climb}{folder}")
    return markdown


def commands() -> str:
    """Of every verb: its options, from the command line itself."""
    line = [sys.executable, "-m", "typer", "rank_search.cli.main", "utils", "docs", "--name", "python -m rank_search"]
    found = subprocess.run([*line, "--title", "Commands"], capture_output=True, text=True, check=True)  # noqa: S603
    return found.stdout


def study_file() -> str:
    """Every field with its type and default."""
    return f"# The study file\n\nEvery field, with its type and default.\n\n```yaml\n{template().rstrip()}\n```\n"
