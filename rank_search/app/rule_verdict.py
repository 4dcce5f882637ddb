"""The verdict of another rule's choice: trains afresh what it lacks."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from rank_search.analysis.slope import slope
from rank_search.app.executors import make_executor
from rank_search.app.loading import load_study_task, new_metadata, refuse_other
from rank_search.app.verdict import FreshVerdict, train_afresh
from rank_search.config import recorded, refuse_code
from rank_search.models.library_logs import silence_library_logs
from rank_search.report.summary import verdict_of

if TYPE_CHECKING:
    from rich.console import Console

    from rank_search.analysis.verdict import Verdict
    from rank_search.core.choice import Rule
    from rank_search.study.handle import Study


def rule_verdict(study: Study, rule: Rule | None, most: int, console: Console, *, trust_code: bool = False) -> Verdict:
    """Compares the map that a rule chooses with its rivals on fresh seeds and the test split.

    What is on record is not trained again.

    Args:
        study: a finished study.
        rule: the rule; by default that of the study file.
        most: fresh seeds that may be trained.
        console: where progress goes.
        trust_code: run Python code that the study's record names: the base model's, and ``training.augmentation``.

    Raises:
        InputError: the data or the base model have changed since, or the record names code that the user does not
            trust.
        RankSearchError: no map meets the rule, or another run of the study is at work.
    """
    silence_library_logs()
    refuse_code(study.metadata.config, trust_code=trust_code)
    config = recorded(study.metadata.config, trust_code=trust_code)
    found = FreshVerdict.of_choice(study, config, rule)
    if found.missing(most)[1]:
        with console.status(f"reading {config.task.data.source} and {config.model.source}"):
            task, space = load_study_task(config)
            refuse_other(study.metadata, new_metadata(config, space, task))
        with (
            closing(make_executor(config, task, space)) as executor,
            study.folder.locked(shared=study.is_shared),
            console.status("training afresh") as shown,
        ):
            train_afresh(
                found,
                most,
                executor,
                lambda done, total: shown.update(f"training afresh: {done} of {total}"),
            )
    return verdict_of(study, found.evidence, found.comparison, slope(found.evidence))
