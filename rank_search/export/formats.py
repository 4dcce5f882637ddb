"""What ``export --to`` can write, and who each format is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, RankSearchError, did_you_mean
from rank_search.core.files import whole_folder, write_text
from rank_search.core.rank_curve import RankCurve
from rank_search.export.origin import header

if TYPE_CHECKING:
    from collections.abc import Callable

    from rank_search.export.choice import Choice


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: fills an empty folder.
        adapts: it has no meaning for a map that leaves every module alone.
        trained: it holds trained weights.
    """

    write: Callable[[Choice, Path, bool], list[str]]
    adapts: bool = True
    trained: bool = False


def write_export(
    choice: Choice, form: str, out: Path, *, force: bool = False, retrain: Callable[[], None] | None = None
) -> list[str]:
    """Writes a trial in a format into ``out``, which must be empty or not exist.

    Trained weights are certified first: if a consumer that the format is for computes anything else than the trained
    adapter, nothing is written.

    Args:
        choice: the trial.
        form: the format.
        out: the folder.
        force: write trained weights that fail, marked as failed.
        retrain: trains the trial again, where trained weights are wanted and were not kept; None to refuse that.

    Returns:
        What to tell the user: who reads it right, and how.

    Raises:
        InputError: the format is unknown, or ``out`` holds something already.
        RankSearchError: the trial lacks what the format needs, the format can't say it, or a consumer fails.
    """
    if form in REFUSED:
        raise InputError(f"{form!r} {REFUSED[form]}", field="--to")
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format; {did_you_mean(form, [*FORMATS, *REFUSED])}", field="--to")
    if out.is_symlink():
        raise InputError(f"{str(out)!r} is a link to {str(out.resolve())!r}; name that", field="--out")
    out = out.resolve()  # "new/.." is the folder it leads to, whether or not there is a "new"
    if out == Path.cwd():  # which would be replaced under its user's feet
        raise InputError(f"{str(out)!r} is the current folder; name a new one", field="--out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} exists and is not an empty folder; name a new one", field="--out")
    if FORMATS[form].adapts and not choice.parts:
        raise RankSearchError(
            f"trial {choice.trial.number} leaves every module alone: use the base model as it is, or export another "
            "trial (--trial N, or a --rule such as best)"
        )
    if retrain is not None and FORMATS[form].trained and not choice.has_adapter:
        retrain()
    try:
        with whole_folder(out) as partial:
            told = FORMATS[form].write(choice, partial, force)
            if choice.record.classes:
                labels = {"id2label": dict(enumerate(choice.record.classes))}
                write_text(partial / "labels.json", json.dumps(labels, indent=2) + "\n")
    except OSError as error:
        if not _below(error.filename, out.parent):
            raise
        reason = error.strerror or str(error)
        raise InputError(f"{str(out)!r} can't be written ({reason}); name another", field="--out") from None
    return told


def _below(file: object, folder: Path) -> bool:
    """Whether an error is of something in a folder, or of none that it names, as a full disk's is."""
    return file is None or (isinstance(file, str) and Path(file).is_relative_to(folder))


def _bundle(form: str) -> Format:
    """Trained weights, with their certificate; torch waits until they are asked for."""

    def write(choice: Choice, out: Path, force: bool) -> list[str]:
        from rank_search.export.bundles import write_bundles

        return write_bundles(choice, form, out, force=force)

    return Format(write, trained=True)


def _trainer(form: str) -> Format:
    """A configuration for a fresh training."""

    def write(choice: Choice, out: Path, _force: bool) -> list[str]:
        from rank_search.export.trainers import write_trainer

        return write_trainer(choice, form, out)

    return Format(write)


def _rank_map(choice: Choice, out: Path, _force: bool) -> list[str]:
    """The map itself, and what it scored."""
    content = {
        "study": choice.study,
        "trial": choice.trial.number,
        "model": choice.record.config["model"]["source"],
        "score": choice.trial.score,
        "trainable_parameters": choice.trial.trainable_parameters,
        "settings": dict(choice.trial.settings),
        "ranks": dict(choice.rank_map.ranks),
    }
    write_text(out / "rank_map.json", json.dumps(content, indent=2) + "\n")
    return []


def _rank_curve(choice: Choice, out: Path, _force: bool) -> list[str]:
    """Ranks against depth, for a study on another model; of each base model in a file of its own."""
    for part in choice.parts:
        name = part.prefix.removesuffix(".")
        write_text(out / name / "rank_curve.json", RankCurve.of(part.rank_map).to_json(header(part)))
    return ["space.prior: rank_curve.json in the study file of another model tries the map nearest to it"]


FORMATS = {
    "peft": _bundle("peft"),
    "compact": _bundle("compact"),
    "padded": _bundle("padded"),
    "gguf": _bundle("gguf"),
    "merged": _bundle("merged"),
    "lora-config": _trainer("lora-config"),
    "axolotl": _trainer("axolotl"),
    "trl": _trainer("trl"),
    "unsloth": _trainer("unsloth"),
    "ms-swift": _trainer("ms-swift"),
    "rank-curve": Format(_rank_curve),
    "rank-map": Format(_rank_map, adapts=False),
}

# Trainers that know one rank for all modules.
_ONE_RANK = "knows one rank for all modules, so no rank map; train with --to trl, axolotl or lora-config (PEFT)"
REFUSED = {"llama-factory": _ONE_RANK, "torchtune": _ONE_RANK, "litgpt": _ONE_RANK}
