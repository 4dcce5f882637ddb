"""Files and results in a form that can be sent between the driver and workers without a shared disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rank_search.core.files import atomic_folder
from rank_search.core.job import FineTuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rank_search.core.job import Outcome


@dataclass(frozen=True)
class FolderPayload:
    """The files of a folder, in memory.

    Attributes:
        files: path in the folder → bytes.
    """

    files: Mapping[str, bytes]

    @classmethod
    def from_folder(cls, folder: Path) -> FolderPayload:
        """Reads all files below a folder."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    def write(self, folder: Path) -> None:
        """Writes the files to a folder; replaces the folder if it exists."""
        with atomic_folder(folder, replace=True) as partial_folder:
            for name, content in self.files.items():
                path = partial_folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def picklable(outcome: Outcome) -> Outcome:
    """An outcome that can be sent to another process: its adapter's files are held in memory."""
    if not isinstance(outcome, FineTuned) or outcome.save_adapter is None:
        return outcome
    return replace(outcome, save_adapter=partial(FolderPayload.write, _saved_files(outcome.save_adapter)))


def _saved_files(save: Callable[[Path], None]) -> FolderPayload:
    with TemporaryDirectory(prefix="rank_search-") as folder:
        adapter = Path(folder) / "adapter"
        save(adapter)
        return FolderPayload.from_folder(adapter)
