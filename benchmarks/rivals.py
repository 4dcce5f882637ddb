"""What a user would script instead of rank_search: PEFT with the Trainer of transformers, or in a bare torch loop.

They run in a process of their own, in which nothing of ours has touched how memory is given back.
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

from rank_search.adapters import lora_config
from rank_search.config import StudyConfig
from rank_search.core.ranks import RankMap
from rank_search.tasks.batching import model_inputs
from rank_search.tasks.load import load_task

if TYPE_CHECKING:
    from collections.abc import Mapping

Rival = Literal["trainer", "loop"]


class Pairs(torch.utils.data.Dataset):
    """Token ids of the training pairs, in the order that the data has."""

    def __init__(self, task: Any) -> None:
        tokens = task._tokens["train"]
        self.items = [(tokens.queries[query], tokens.documents[document]) for query, document in task._pairs]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[list[int], list[int]]:
        return self.items[i]


def collate(items: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Each side padded to its longest text, as tokenizers and sentence-transformers do."""
    cpu = torch.device("cpu")
    queries, documents = (model_inputs([pair[side] for pair in items], 0, cpu) for side in (0, 1))
    return {
        **{f"query_{name}": rows for name, rows in queries.items()},
        **{f"document_{name}": rows for name, rows in documents.items()},
    }


def loss_of(encoder: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Multiple-negatives ranking loss at scale 20, the default of sentence-transformers."""
    vectors = [
        functional.normalize(
            encoder({name: batch[f"{side}_{name}"] for name in ("input_ids", "attention_mask")}), dim=-1
        )
        for side in ("query", "document")
    ]
    similarities = vectors[0] @ vectors[1].T * 20
    return functional.cross_entropy(similarities, torch.arange(len(similarities)))


class RankingTrainer(Trainer):
    """The Trainer of transformers, with the loss that its user writes."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, torch.Tensor], **_: Any) -> torch.Tensor:
        """Called by the Trainer at each step."""
        return loss_of(self.encoder, inputs)


class Rivals:
    """The demo task, and a fine-tune of one map by each of the two."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.config = StudyConfig.model_validate(settings)
        self.task: Any = load_task(self.config)
        self.encoder = self.task._retriever.encoder
        self.pairs = Pairs(self.task)

    def fine_tune(self, rival: Rival, ranks: Mapping[str, int], seed: int) -> tuple[float, float, float]:
        """Seconds of training, seconds of evaluation, score."""
        torch.manual_seed(seed)
        started = time.perf_counter()
        model = get_peft_model(self.task.backbone, lora_config(RankMap(ranks), self.config.adapter))
        {"trainer": self._with_trainer, "loop": self._with_loop}[rival](model, seed)
        trained = time.perf_counter()
        self.encoder.eval()
        (evaluation,) = self.task.evaluate("validation")
        finished = time.perf_counter()
        model.unload()
        self.encoder.requires_grad_(False)
        return trained - started, finished - trained, evaluation.score

    def _with_trainer(self, model: nn.Module, seed: int) -> None:
        training = self.config.training
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=training.steps,
                per_device_train_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                warmup_steps=round(training.warmup * training.steps),
                weight_decay=training.weight_decay,
                max_grad_norm=training.max_grad_norm,
                bf16=True,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                disable_tqdm=True,
                logging_strategy="no",
                dataloader_pin_memory=False,
                seed=seed,
            )
            trainer = RankingTrainer(model, arguments, data_collator=collate, train_dataset=self.pairs)
            trainer.encoder = self.encoder
            self.encoder.eval()
            trainer.train()

    def _with_loop(self, model: nn.Module, seed: int) -> None:
        training = self.config.training
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimiser, round(training.warmup * training.steps), training.steps)
        loader = torch.utils.data.DataLoader(
            self.pairs, training.batch_size, shuffle=True, collate_fn=collate, drop_last=True
        )
        self.encoder.train()
        for _, batch in zip(range(training.steps), loader, strict=False):
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(self.encoder, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            optimiser.step()
            schedule.step()


_rivals: Rivals


def begin(settings: Mapping[str, Any]) -> None:
    """Loads the task, once in the process of the rivals."""
    global _rivals  # noqa: PLW0603  # the one of this process
    _rivals = Rivals(settings)


def fine_tune(rival: Rival, ranks: Mapping[str, int], seed: int) -> tuple[float, float, float]:
    """In the process of the rivals; see `Rivals.fine_tune`."""
    return _rivals.fine_tune(rival, ranks, seed)
