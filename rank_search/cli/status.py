"""``status``: how far a study is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rank_search.cli.options import JsonOption, StorageOption, StudyArgument
from rank_search.cli.output import print_json, print_table
from rank_search.cli.study import open_study
from rank_search.core.errors import printable

if TYPE_CHECKING:
    from rank_search.app.status import StudyStatus


def status(study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Shows how far a study is, and its front."""
    from rank_search.app.status import study_status

    found = study_status(open_study(study, storage))
    if as_json:
        print_json(_content(found))
    else:
        _print(found)


def _content(found: StudyStatus) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "study": found.study,
        "state": found.state,
        "trials": found.trials,
        "front": [trial.number for trial in found.front],
        "hypervolume": found.hypervolume,
        "failures": found.failures,
        "failure_kinds": found.failure_kinds,
    }


def _print(found: StudyStatus) -> None:
    counts = ", ".join(f"{count} {name.lower()}" for name, count in found.trials.items()) or "none"
    print(f"{printable(found.study)}: {found.state}; trials: {counts}; hypervolume {found.hypervolume:,.1f}")
    if found.failure_kinds:
        print("failures: " + ", ".join(f"{count} {kind}" for kind, count in found.failure_kinds.items()))
    for reason, count in found.failures.items():
        print(f"failed {count} ×: {printable(reason)}")
    rows = [
        (
            str(trial.number),
            trial.kind,
            f"{trial.score:.4f} ± {trial.score_se:.4f}",
            str(trial.seeds),
            f"{trial.trainable_parameters:,}",
            f"{trial.front_probability:.2f}",
        )
        for trial in found.front
    ]
    print_table("front", ("trial", "kind", "score", "seeds", "parameters", "on the front"), rows)
