"""One writer an export format. Each fills an empty folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.config import StudyConfig
from rank_search.errors import InputError, RankSearchError, did_you_mean
from rank_search.files import whole_folder
from rank_search.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.search.record import StudyRecord
    from rank_search.search.storage import StudyFolder


@dataclass(frozen=True)
class Choice:
    """The trial to export, and the study it comes from."""

    study: str
    record: StudyRecord
    folder: StudyFolder
    trial: ScoredTrial

    @property
    def rank_map(self) -> RankMap:
        """The trial's map."""
        return RankMap(self.trial.ranks)


def write_export(choice: Choice, form: str, out: Path) -> None:
    """Writes a trial's map in a format into ``out``, which must be empty or not exist.

    A classifier's classes, in the order of the head's outputs, go into ``labels.json`` beside it.

    Raises:
        InputError: the format is unknown, or ``out`` holds something already.
        RankSearchError: the trial lacks what the format needs.
    """
    if form not in WRITERS:
        raise InputError(f"{form!r} is no format; {did_you_mean(form, WRITERS)}", field="--to")
    out = out.resolve()  # "new/.." is the folder it leads to, whether or not there is a "new"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} exists and is not an empty folder; name a new one", field="--out")
    if form != "rank-map" and not choice.rank_map.adapted and not choice.record.head:
        raise RankSearchError(
            f"trial {choice.trial.number} leaves every module alone: use the base model as it is, or export another "
            "trial (--trial N, or a --rule such as best)"
        )
    try:
        with whole_folder(out) as partial:
            WRITERS[form](choice, partial)
            if choice.record.classes:
                labels = {"id2label": dict(enumerate(choice.record.classes))}
                (partial / "labels.json").write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{str(out)!r} can't be written ({error.strerror}); name another", field="--out") from None


def _peft(choice: Choice, out: Path) -> None:
    """The trained adapter, as PEFT loads it."""
    adapter = choice.folder.adapter(choice.trial.number)
    if not adapter.is_dir():
        kept = sorted(choice.folder.adapters())
        raise RankSearchError(
            f"trial {choice.trial.number} has no saved adapter: only maps that may stand on the front, and baselines, "
            f"keep theirs (trials {', '.join(map(str, kept)) or 'none'}); choose one of these, or train anew from "
            "--to lora-config"
        )
    shutil.copytree(adapter, out, dirs_exist_ok=True)


def _rank_map(choice: Choice, out: Path) -> None:
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
    (out / "rank_map.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _lora_config(choice: Choice, out: Path) -> None:
    """``adapter_config.json`` without weights, for a fresh training by PEFT; one for each base model."""
    from rank_search.adapters import adapter_folder, lora_config  # torch, which the other formats do without

    config = StudyConfig.model_validate(choice.record.config)
    for prefix, model in config.base_models.items():
        rank_map = choice.rank_map.under(prefix)
        if rank_map.adapted or choice.record.head:
            lora_config(
                rank_map,
                config.tuned(choice.trial.settings).adapter,
                base_model=model.source,
                head=choice.record.head,
                fan_in_fan_out=any(prefix + name in choice.record.space.transposed for name in rank_map.adapted),
            ).save_pretrained(str(adapter_folder(out, prefix)))


WRITERS: dict[str, Callable[[Choice, Path], None]] = {
    "peft": _peft,
    "rank-map": _rank_map,
    "lora-config": _lora_config,
}
