"""One family's way: plan, run, export, verify, and the export in plain PEFT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
import transformers
import yaml
from peft import PeftModel
from safetensors.torch import load_file

from rank_search.adapters import loaded
from rank_search.app.loading import load_study_task
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from tests.conftest import Command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.families.models import Family

_WORDS = [f"{first}{second}" for first in "bcdfgh" for second in ("ar", "en", "ig", "op", "ub")]
ROWS = {
    "classification": [{"text": f"{_WORDS[i % 30]} {i}", "label": "abc"[i % 3]} for i in range(60)],
    "retrieval": [{"query": f"find {_WORDS[i % 30]} {i}", "document": f"{_WORDS[i % 30]} is {i}"} for i in range(60)],
    "generation": [
        {"question": f"what is {_WORDS[i % 30]}", "answers": str(i), "context": f"{_WORDS[i % 30]} is {i}"}
        for i in range(60)
    ],
}


def travel(family: Family, folder: Path) -> list[str]:
    """Takes a family through all steps in an empty folder.

    Returns:
        What ``plan`` says is not searched, and what the export says of consumers.

    Raises:
        AssertionError: a command failed, or two ways to compute the same differ.
    """
    family.write(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[family.kind]))
    (folder / "study.yaml").write_text(yaml.safe_dump(_study(family, folder)))
    command = Command(folder)
    planned = _done(command, "plan", "study.yaml")
    _done(command, "run", "study.yaml")
    exported = _done(command, "export", "tiny", "--rule", "best", "--to", "peft", "--out", "out")
    _done(command, "verify", "out")
    _compare_with_plain_peft(folder / "out", folder / "model")
    _compare_with_record(folder)
    return [line for line in planned.splitlines() if line.startswith("not searched")] + exported.splitlines()[1:]


def _study(family: Family, folder: Path) -> dict[str, Any]:
    task: dict[str, Any] = {"kind": family.kind, "data": str(folder / "rows.jsonl")}
    if family.kind == "generation":
        task |= {"max_new_tokens": 4, "passage_length": 16}
    return {
        "study": "tiny",
        "model": {"source": str(folder / "model"), "device": "cpu"},
        "task": task,
        "space": {"ladder": [1, 2], "group_by": "layer"},
        "training": {"steps": 4, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2},
        "search": {
            "trials": 2,
            "sampler": "random",
            "repeats": 0,
            "baselines": [],
            "verdict_seeds": 0,
            "tune_uniform": [],
            "pack": family.pack,
        },
    }


def _done(command: Command, *arguments: str) -> str:
    result = command(*arguments)
    told = f"{' '.join(arguments)}: {result.stderr}{result.stdout}"
    assert result.returncode == 0, told
    assert "Traceback" not in result.stderr, told
    return str(result.stdout)


def _compare_with_plain_peft(out: Path, base: Path) -> None:
    """The export under PEFT and transformers alone gives the outputs of the certificate."""
    auto_class = json.loads((out / "rank_search.json").read_text())["base"]["auto_class"]
    settings = {"num_labels": 3} if auto_class == "AutoModelForSequenceClassification" else {}
    model = PeftModel.from_pretrained(getattr(transformers, auto_class).from_pretrained(base, **settings), out).eval()
    model.base_model.model.config.get_text_config().pad_token_id = 0
    reference = load_file(out / "certificate" / "reference.safetensors")
    ids, mask = reference["ids"], reference["mask"]
    with torch.no_grad():
        result = model(input_ids=ids, attention_mask=mask)
    if "last_hidden_state" in result:
        found = result.last_hidden_state[mask.bool()]
    else:
        found = result.logits if settings else result.logits[torch.arange(len(ids)), mask.sum(1) - 1]
    effect = (reference["adapted"] - reference["base"]).abs().max()
    difference = (found - reference["adapted"]).abs().max()
    assert difference < 0.01 * effect, f"plain PEFT differs by {difference}; the adapter changes outputs by {effect}"


def _compare_with_record(folder: Path) -> None:
    """The adapter that PEFT loads scores what was recorded of the trial when it was trained in a pack."""
    study = Study.find(StudyFolder(folder / "studies" / "tiny"), None)
    assert study is not None
    trial = json.loads((folder / "out" / "rank_search.json").read_text())["trial"]
    task, _ = load_study_task(study.config)
    with loaded(task.backbone, folder / "out"):
        (evaluation,) = task.evaluate("validation")
    recorded = study.trial(trial).score
    assert recorded is not None
    assert abs(evaluation.score - recorded) < 1e-4, f"{evaluation.score} under PEFT, {recorded} recorded"
