"""The extras that a study needs, looked for before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.extras import MODULES, require_extra

if TYPE_CHECKING:
    from rank_search.config import StudyConfig


def check_extras(config: StudyConfig) -> None:
    """Checks that the libraries of a run are installed, so that none is missed hours later.

    What only the model, the data or the storage shows, such as a GGUF file, is checked where these are opened,
    which is before any training too.

    Args:
        config: the study file.

    Raises:
        InputError: an extra is missing; the message names it.
    """
    if config.model.source.startswith(f"package:{MODULES['demo'][0]}/"):
        require_extra("demo", repr(config.model.source), field="model.source")
    if config.task.kind in ("retrieval", "rag"):
        require_extra("retrieval", config.task.kind, field="task.kind")
    if config.executor.kind == "ray":
        require_extra("ray", "ray", field="executor.kind")
    for tracker in config.trackers:
        require_extra(tracker, f"the tracker {tracker}", field="trackers")
