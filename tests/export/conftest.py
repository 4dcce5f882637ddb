"""Choices with trained-looking adapters on small models that lie in folders, as a user's do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MPNetConfig,
    MPNetModel,
)

from rank_search.adapters import Member, packed
from rank_search.analysis.trials import ScoredTrial, scored
from rank_search.config import AdapterConfig, ModelConfig
from rank_search.core.ranks import RankMap
from rank_search.export.exported_trial import ExportedTrial
from rank_search.models.modules import build_space
from rank_search.models.source import fingerprint, locate
from rank_search.study.folder import StudyFolder
from tests.bench import EMBEDDED, metadata, study_config, table_of
from tests.small_models import filled

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
# The key and value heads of the llama are fewer than its query heads, as in most.
MODELS = {
    "retrieval": lambda size: BertModel(BertConfig(vocab_size=size, **SIZES)),
    "classification": lambda size: BertForSequenceClassification(BertConfig(vocab_size=size, num_labels=3, **SIZES)),
    "mpnet": lambda size: MPNetModel(MPNetConfig(vocab_size=size, pad_token_id=0, **SIZES)),
    "distilbert": lambda size: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=size, num_labels=3, dim=32, n_layers=3, n_heads=4, hidden_dim=48)
    ),
    "generation": lambda size: LlamaForCausalLM(
        LlamaConfig(vocab_size=size, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **SIZES)
    ),
    "gpt2": lambda size: GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=32, n_layer=3, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    ),
}
TASKS = {"gpt2": "generation", "mpnet": "retrieval", "distilbert": "classification"}  # of the others their own names
HEADS = {"classification": ("classifier",), "distilbert": ("classifier", "pre_classifier")}
LADDER = (0, 1, 2, 4, 8)


@dataclass(frozen=True)
class Bases:
    """Folders of base models, made once."""

    path: Path

    def __call__(self, kind: str) -> Path:
        folder = self.path / kind
        if not folder.exists():
            tokenizer = AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).path_or_id)
            if kind in {"generation", "gpt2"}:
                tokenizer.eos_token = tokenizer.sep_token
            torch.manual_seed(0)
            model = MODELS[kind](len(tokenizer))
            with torch.no_grad():  # as large as in trained models, so that layers matter
                for parameter in model.parameters():
                    parameter.mul_(4.0) if parameter.dim() > 1 else None
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def exported_trial(bases, tmp_path):
    """Makes a exported of a study on one of the small models, with an adapter of random weights.

    A whole layer has rank 0; the others have four ranks.
    """

    def make(kind: str = "retrieval", scale: str = "rslora", alpha: float = 4.0, ranks=None, **model) -> ExportedTrial:
        folder = bases(kind)
        task = {"kind": TASKS.get(kind, kind), "data": "x"}
        if kind in HEADS:
            task["columns"] = {}
        config = study_config(
            task=task,
            model={"source": str(folder), **model},
            space={"ladder": LADDER, "group_by": "module"},
            adapter={"scale": scale, "alpha": alpha},
        )
        base = MODELS[kind](len(AutoTokenizer.from_pretrained(folder)))
        base = type(base).from_pretrained(folder)
        head = HEADS.get(kind, ())
        space = build_space(base, config, head)
        layers = sorted({name.split(".layer.")[-1].split(".layers.")[-1].split(".h.")[-1][0] for name in space.shapes})
        found = {name: 0 if _layer(name) == layers[1] else LADDER[1 + i % 4] for i, name in enumerate(space.shapes)}
        rank_map = RankMap(found if ranks is None else {**dict.fromkeys(found, 0), **ranks(found)})
        folder_of_study = StudyFolder(tmp_path / "studies" / kind)
        with packed(base, [Member(rank_map, AdapterConfig(scale=scale, alpha=alpha), seed=0)], head) as pack:
            filled(pack, 0.3)
            pack.adapters(0, {"": str(folder)}).save(folder_of_study.adapter(7))
        kept = replace(
            metadata(space),
            config=config.frozen(),
            head=head,
            classes=("no", "perhaps", "yes") if head else (),
            model_fingerprint=fingerprint(locate(config.model), config.model),
        )
        trial = ScoredTrial(7, "search", 0.5, 0.1, space.parameters(rank_map), dict(rank_map.ranks), {}, 1.0)
        return ExportedTrial("small", kept, folder_of_study, trial)

    return make


@pytest.fixture
def searched_trial(bench):
    study = bench.search(8)
    trials = scored(table_of(study))
    return lambda number: ExportedTrial("small", metadata(), bench.folder, trials[number])


def _layer(name: str) -> str:
    return name.rsplit(".layer.", maxsplit=1)[-1].rsplit(".layers.", maxsplit=1)[-1].rsplit(".h.", maxsplit=1)[-1][0]
