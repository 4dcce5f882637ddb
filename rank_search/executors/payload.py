"""Files and results on their way between the driver and workers that share no disk with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rank_search.core.files import whole_folder
from rank_search.core.job import FineTuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rank_search.core.job import Outcome


@dataclass(frozen=True)
class Parcel:
    """The files of a folder.

    Attributes:
        files: path in the folder → bytes.
    """

    files: Mapping[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> Parcel:
        """All files below a folder."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    def write(self, folder: Path) -> None:
        """Makes the folder, in the place of one that may be there."""
        with whole_folder(folder, replace=True) as partial_folder:
            for name, content in self.files.items():
                path = partial_folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def shipped(outcome: Outcome) -> Outcome:
    """An outcome that can leave its process, with its adapter's files."""
    if not isinstance(outcome, FineTuned) or outcome.save_adapter is None:
        return outcome
    return replace(outcome, save_adapter=partial(Parcel.write, _saved(outcome.save_adapter)))


def _saved(save: Callable[[Path], None]) -> Parcel:
    with TemporaryDirectory(prefix="rank_search-") as folder:
        adapter = Path(folder) / "adapter"
        save(adapter)
        return Parcel.of(adapter)
