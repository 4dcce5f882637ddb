"""What an adapter does to its base model on fixed inputs, which every consumer of a bundle must reproduce."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
)

from rank_search.adapters import ADAPTER, Adapter, known_warnings
from rank_search.core.errors import InputError
from rank_search.export.updates import AppliedUpdates, Refused
from rank_search.models.load import load
from rank_search.models.modules import linear_modules
from rank_search.models.source import locate
from rank_search.tasks.embedding import encoder_inputs, token_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource
    from rank_search.export.manifest import AutoClass, Base
    from rank_search.models.retriever import Retriever

LONGEST = 32  # tokens of a text
LEAST_EFFECT = 1e-4  # of the output; below it, a wrong scale looks like rounding
FILE = "certificate/reference.safetensors"  # not beside a model's weights, as servers load all that lie there

# Of several lengths, so that padding counts too; prose, a question, code, digits, other scripts.
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Which rank does each layer deserve?",
    "def area(radius): return 3.14159 * radius ** 2",
    "Return the sum of two numbers, or raise ValueError when one of them is negative.",
    "1 2 3 5 8 13 21 34 55 89",
    "Übergrößenträger sind Träger für Übergrößen; 東京は日本の首都です。",
    "Yes",
    "In 1905, Albert Einstein published four papers that changed how we see space, time, mass and energy; he was 26.",
)

CLASSES: dict[AutoClass, Any] = {
    "AutoModel": AutoModel,
    "AutoModelForTextEncoding": AutoModelForTextEncoding,
    "AutoModelForSequenceClassification": AutoModelForSequenceClassification,
    "AutoModelForCausalLM": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Change:
    """What an adapter changes.

    Attributes:
        base: outputs without the adapter.
        adapted: outputs with it, under PEFT, in the same shape.
    """

    base: Tensor
    adapted: Tensor

    def difference(self, found: Tensor) -> float:
        """The largest difference from the adapter's outputs, as a part of the largest change that it makes."""
        return _largest(found - self.adapted) / _largest(self.adapted - self.base)

    def of_output(self, found: Tensor) -> float:
        """The largest difference from the adapter's outputs, as a part of the largest of these."""
        return _largest(found - self.adapted) / max(_largest(self.adapted), torch.finfo(torch.float32).tiny)

    @property
    def effect(self) -> float:
        """The largest change that the adapter makes, as a part of the largest output."""
        return self.of_output(self.base)


@dataclass(frozen=True)
class Reference(Change):
    """Fixed inputs, and a model's outputs for them without and with the trained adapter, as `outputs` gives them.

    Attributes:
        ids: token ids ``[texts, length]``, padded at the end.
        mask: 1 where there is a token ``[texts, length]``.
        base_vectors: of an embedder, its `vectors` without the adapter.
        adapted_vectors: of an embedder, its `vectors` with it.
    """

    ids: Tensor
    mask: Tensor
    base_vectors: Tensor | None = None
    adapted_vectors: Tensor | None = None

    @property
    def vectors(self) -> Change | None:
        """What the adapter changes in an embedder's vectors; None of other models."""
        if self.base_vectors is None or self.adapted_vectors is None:
            return None
        return Change(self.base_vectors, self.adapted_vectors)

    def save(self, folder: Path) -> None:
        """Writes it into a bundle's folder."""
        path = folder / FILE
        path.parent.mkdir(exist_ok=True)
        save_file({name: tensor for name, tensor in asdict(self).items() if tensor is not None}, path)

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Reads what `save` wrote.

        Raises:
            InputError: it is missing or damaged.
        """
        path = folder / FILE
        try:
            reference = cls(**load_file(path))
            reference.check()
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise InputError(f"is damaged or missing ({error}); export again", file=str(path)) from None
        return reference

    def check(self) -> None:
        """Checks that `save` could have written it.

        Raises:
            ValueError: it could not.
        """
        if self.ids.dtype != torch.int64 or self.ids.dim() != 2 or self.ids.shape[1] > LONGEST or not len(self.ids):
            raise ValueError(f"ids are {self.ids.dtype} {tuple(self.ids.shape)}")
        # Texts are padded at the end, and none is empty.
        lengths = self.mask.sum(1, keepdim=True) if self.mask.shape == self.ids.shape else torch.zeros(1)
        if (lengths < 1).any() or not self.mask.equal((torch.arange(self.ids.shape[1]) < lengths).to(self.mask)):
            raise ValueError("the mask is not one of texts")
        if (self.base_vectors is None) != (self.adapted_vectors is None):
            raise ValueError("vectors are there with the adapter or without it, not both")
        for change in filter(None, (self, self.vectors)):
            base, adapted = change.base, change.adapted
            if base.shape != adapted.shape or base.dim() != 2 or not base.numel():
                raise ValueError(f"outputs are {tuple(base.shape)} and {tuple(adapted.shape)}")
            if not (base.isfinite().all() and adapted.isfinite().all() and change.effect >= LEAST_EFFECT):
                raise ValueError("the adapter has no effect on the outputs")


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item()


def tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """The texts as ids and mask, each ``[texts, length]``, padded at the end, at most `LONGEST` tokens."""
    encoded = tokenizer(
        list(TEXTS), padding=True, truncation=True, max_length=LONGEST, padding_side="right", return_tensors="pt"
    )
    return encoded["input_ids"], encoded["attention_mask"]


@torch.inference_mode()
def outputs(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """What a model gives for fixed inputs, in float32 on the CPU.

    Returns:
        Of an encoder, the last hidden state of every token, ``[tokens, hidden]``; of a causal LM, the logits that
        follow each text, ``[texts, vocabulary]``; of a classifier, its logits, ``[texts, classes]``.
    """
    device = next(model.parameters()).device
    result = model(input_ids=ids.to(device), attention_mask=mask.to(device))
    found: Tensor
    if "last_hidden_state" in result:
        found = result.last_hidden_state.cpu()[mask.bool()]
    elif result.logits.dim() == 3:
        found = result.logits.cpu()[torch.arange(len(ids)), mask.sum(1) - 1]
    else:
        found = result.logits.cpu()
    return found.float().contiguous()


@torch.inference_mode()
def vectors(retriever: Retriever) -> Tensor:
    """An embedder's vectors of the texts as queries, then as documents, as a study computes them.

    Returns:
        ``[2 · texts, dimension]`` in float32, before any normalisation that only the similarity asks for.
    """
    found = []
    for kind in (retriever.query, retriever.document):
        for text in TEXTS:
            ids, _ = token_ids(retriever, [text], kind)
            found.append(retriever.encoder(encoder_inputs(retriever, ids), kind).cpu())
    return torch.cat(found).float().contiguous()


@dataclass(frozen=True)
class LoadedBase:
    """A base model in float32.

    Attributes:
        source: where it was loaded from.
        model: the model itself.
        tokenizer: its tokenizer.
        fingerprint: of its weights.
        gguf: the GGUF file that it was read from, if it was.
    """

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    gguf: Path | None


def load_base(source: ModelSource, auto_class: AutoClass, classes: int) -> LoadedBase:
    """Loads a base model on the CPU, in float32.

    A classifier's head is drawn at random, as an adapter brings its own.

    Raises:
        InputError: it can't be loaded.
    """
    plain = source.model_copy(update={"dtype": "float32", "quantization": "none"})
    settings: dict[str, Any] = {"num_labels": classes, "ignore_mismatched_sizes": True} if classes else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = load(plain, CLASSES[auto_class], torch.device("cpu"), **settings)
    located = locate(plain)
    file = Path(located.path_or_id) / located.gguf_file if located.gguf_file else None
    return LoadedBase(
        plain, loaded.model, loaded.tokenizer, loaded.fingerprint, file if file and file.is_file() else None
    )


def check_unchanged(base: Base, loaded: LoadedBase) -> None:
    """Checks that a base model has the weights that the adapter was trained on.

    Raises:
        InputError: it has others.
    """
    if loaded.fingerprint != base.fingerprint:
        raise InputError(
            f"{base.source!r} has changed: its weights were {base.fingerprint} when the adapter was trained, and are "
            f"{loaded.fingerprint} now; restore them, or name the revision",
            field="model.source",
        )


@contextmanager
def updated(model: nn.Module, updates: Mapping[str, tuple[Tensor, Tensor, float]]) -> Iterator[None]:
    """Adds s · B A x to the outputs of modules, as a server does without PEFT.

    Args:
        model: the base model.
        updates: by module: A ``[r, in]``, B ``[out, r]``, and the scale s.
    """

    def add_update(a: Tensor, b: Tensor, scale: float):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return lambda _module, inputs, output: output + scale * (inputs[0] @ a.float().T @ b.float().T)

    handles = [model.get_submodule(name).register_forward_hook(add_update(*update)) for name, update in updates.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def outputs_with(base: LoadedBase, applied: AppliedUpdates, ids: Tensor, mask: Tensor) -> Tensor:
    """Outputs of the base model with what a consumer adds to it and replaces in it, in the shape of `outputs`.

    Raises:
        Refused: an update is for a module that the base model does not have.
    """
    if unknown := sorted(applied.updates.keys() - linear_modules(base.model).keys()):
        raise Refused(f"the base model has no linear layer {unknown[0]!r}")
    originals = {name: base.model.get_parameter(name).data for name in applied.replaced}
    try:
        for name, tensor in applied.replaced.items():
            base.model.get_parameter(name).data = tensor.float()
        with updated(base.model, applied.updates):
            return outputs(base.model, ids, mask)
    finally:
        for name, tensor in originals.items():
            base.model.get_parameter(name).data = tensor


def merged(base: LoadedBase, adapter: Path) -> PreTrainedModel:
    """A copy of the base model with an adapter merged into its weights, by PEFT.

    An adapted output layer that is tied to the embeddings gets weights of its own, as the embeddings must not change.
    """
    untied = copy.deepcopy(base.model)
    _untie_output(untied, adapter)
    with known_warnings():
        model = PeftModel.from_pretrained(untied, adapter, adapter_name=ADAPTER)
    return model.merge_and_unload()  # type: ignore[no-any-return]


def _untie_output(model: Any, adapter: Path) -> None:
    output, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [model.get_submodule(name) for name in Adapter.load(adapter).factors]
    if not any(module is output for module in adapted) or output.weight is not embeddings.weight:
        return
    output.weight = nn.Parameter(output.weight.detach().clone(), requires_grad=False)
    for settings in (model.config, model.config.get_text_config()):
        settings.tie_word_embeddings = False
