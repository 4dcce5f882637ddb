"""Writes reports/export.md: what each consumer computes with each bundle, for a retriever and for a generator.

    small="--set search.trials=8 --set search.sampler=random --set search.repeats=0 --set search.baselines=[]"
    small="$small --set search.verdict_seeds=0 --set search.tune_uniform=[]"
    small="$small --set space.group_by=module --set search.pack=1"
    python -m rank_search run configs/demo.yaml --set study=export-retriever $small
    python -m rank_search run configs/generator-xquad.yaml --set study=export-generator $small
    make consumers
    python benchmarks/export.py

Consumers that `make consumers` has brought run their own code, the others a model of their rules.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from pages import rendered

from rank_search.export.consumers import readers
from rank_search.export.manifest import Manifest
from rank_search.export.protocol import BUNDLE_FORMATS
from rank_search.export.serving import serving_notes
from rank_search.study.metadata import environment

ROOT = Path(__file__).parent.parent
BROUGHT = ROOT / ".consumers"
# Folder of a consumer that `make consumers` brings → the label by which verify knows it.
LABELS = {reader.release.replace("==", "-"): reader.label for reader in readers() if reader.release}
STUDIES = ("export-retriever", "export-generator")


def main(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies to export from.")] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("reports/export.md"),
) -> None:
    """Exports a trial of each study in every form, and lets every consumer read it."""
    bundles = out.with_suffix("")
    shutil.rmtree(bundles, ignore_errors=True)
    text = rendered(
        "export.md.j2",
        commands=textwrap.dedent((__doc__ or "").partition("\n\n")[2].partition("\n\nConsumers")[0]),
        here=environment("cpu"),
        forms=list(BUNDLE_FORMATS),
        studies=[_study(study, bundles / study) for study in studies or STUDIES],
        cell=_cell,
    )
    out.write_text(text, encoding="utf-8")
    print(out)


def _study(study: str, folder: Path) -> dict[str, Any]:
    """A trial of a study, what every consumer computes by bundle, and notes by bundle."""
    trial, notes = _trial(study), {}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for form in BUNDLE_FORMATS:
        bundle = folder / form
        done = _command("export", study, "--trial", str(trial["number"]), "--to", form, "--out", str(bundle), "--force")
        if done.returncode:
            notes[form] = done.stderr.strip().removeprefix("rank_search: ")
            continue
        manifest = Manifest.read(bundle)
        notes[form] = "; ".join(serving_notes(bundle, manifest.certificate, manifest.base.auto_class))
        for finding in _verified(bundle):
            rows.setdefault((finding["consumer"], finding["version"]), {})[form] = finding
        print(study, form, flush=True)
    return {"name": study, "trial": trial, "rows": rows, "notes": notes}


def _trial(study: str) -> dict[str, Any]:
    """The proposed map with the most different ranks, among those with a saved adapter."""
    summary = json.loads((Path("reports") / study / "summary.json").read_text())
    kept = {int(path.name) for path in (Path("studies") / study / "adapters").iterdir()}
    proposed = [row for row in summary["trials"] if row["number"] in kept and row["kind"] == "search"]
    trial: dict[str, Any] = max(proposed, key=lambda row: len(set(row["ranks"].values())))
    return trial


def _verified(bundle: Path) -> list[dict[str, Any]]:
    """What all consumers compute with a bundle, by their own code where `make consumers` brought it."""
    found = _findings(_command("verify", str(bundle), "--all", "--json"))
    labels = [finding["label"] for finding in found]
    for name, label in LABELS.items():
        if label in labels and (BROUGHT / name).is_dir():
            (real,) = _findings(_command("verify", str(bundle), "--consumer", label, "--json", consumer=name))
            found[labels.index(label)] = real
    return found


def _findings(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr[-2000:])
    (found,) = json.loads(done.stdout)["bundles"].values()
    return list(found)


def _command(*arguments: str, consumer: str | None = None) -> subprocess.CompletedProcess[str]:
    """`rank_search` in a process of its own, with a consumer's classes on its path."""
    variables = dict(os.environ)
    if consumer:
        places = [ROOT, BROUGHT / consumer, BROUGHT / "dependencies"]
        variables |= {"PYTHONPATH": os.pathsep.join(map(str, places)), "VLLM_TARGET_DEVICE": "cpu"}
    stands_in = consumer is not None and consumer.startswith("sglang")
    start = [str(ROOT / "tests" / "consumers" / "stand_ins.py")] if stands_in else ["-m", "rank_search"]
    line = [sys.executable, *start, *arguments]
    return subprocess.run(line, env=variables, capture_output=True, text=True, check=False)  # noqa: S603  our own command


def _cell(finding: dict[str, Any] | None) -> str:
    if finding is None or finding["passed"] is None:
        return "–"
    verdict = "pass" if finding["passed"] else "**FAIL**"
    if finding["difference"] is None:
        return f"{verdict}: {finding['note']}"
    return f"{verdict}, {finding['difference']:.0e}"


if __name__ == "__main__":
    typer.run(main)
