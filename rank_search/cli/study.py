"""Opens the study that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rank_search.study.handle import Study


def open_study(study: str, storage: str | None) -> Study:
    """A study that exists.

    Args:
        study: its name under ``studies/``, or the path of its folder.
        storage: URL of another storage than the folder's own SQLite file.

    Raises:
        InputError: there is no such study, or its storage can't be opened.
    """
    from rank_search.study.handle import Study

    silence_optuna()
    return Study.open(study, storage)


def silence_optuna() -> None:
    """Hides Optuna's messages below warnings, such as the one that it opened a study."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
