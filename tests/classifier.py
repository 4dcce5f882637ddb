"""A small random classifier in a folder, as a process that knows nothing else loads it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from rank_search.config import ModelConfig, StudyConfig
from rank_search.models.source import locate
from tests.bench import EMBEDDED

_WORDS = [f"{first}{second}" for first in "bcdfgh" for second in ("ar", "en", "ig", "op", "ub")]


def write(folder: Path) -> Path:
    """Makes ``model`` and ``texts.jsonl``."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertForSequenceClassification(BertConfig(num_labels=3, **sizes)).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).path_or_id).save_pretrained(folder / "model")
    rows = [{"text": f"{_WORDS[i % 30]} {i}", "label": "abc"[i % 3]} for i in range(120)]
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def config(place: Path, **sections) -> StudyConfig:
    """A study file for it."""
    settings = {
        "study": "small",
        "model": {"source": str(place / "model"), "device": "cpu"},
        "task": {"kind": "classification", "data": str(place / "texts.jsonl")},
        "space": {"ladder": [0, 1, 2, 4], "group_by": "block"},
        "training": {"steps": 9, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2},
        "executor": {"kind": "ray", "workers": 2},
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    return StudyConfig.model_validate(settings)
