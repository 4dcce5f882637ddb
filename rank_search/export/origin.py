"""Where an export comes from, in words: a header for configurations, a model card for weights."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from rank_search.core.module_names import layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rank_search.export.exported_trial import ModelPart
    from rank_search.export.manifest import Finding, Manifest

_PACKAGES = ("rank_search", "peft", "transformers", "torch")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_TASKS = {
    "AutoModel": "sentence-similarity",
    "AutoModelForTextEncoding": "sentence-similarity",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForCausalLM": "text-generation",
}


def header(part: ModelPart) -> list[str]:
    """Study, trial, score, parameters and versions, a line each."""
    exported, trial = part.exported, part.exported.trial
    several = part.trainable_parameters < trial.trainable_parameters
    whole = f", of {trial.trainable_parameters:,} in all its base models" if several else ""
    revision = _on_one_line(part.model.revision or "")
    searched = ", ".join(f"{name} {value:.4g}" for name, value in trial.settings.items())
    beside = f", trained at {searched}" if searched else ""
    return [
        (
            f"Ranks found by rank_search: study {exported.study}, trial {trial.number} ({trial.kind}), "
            f"{exported.config.task.metric} {trial.score:.4f} ± {trial.score_se:.4f} on validation,"
        ),
        f"{part.trainable_parameters:,} trainable parameters{whole}{beside}.",
        f"Base model {_on_one_line(part.model.source)}{f' at {revision}' if revision else ''}. Versions: "
        + ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
        + ".",
    ]


def _on_one_line(text: str) -> str:
    """Replaces what is not printable: a line break in a folder's name would end a comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def write_card(folder: Path, manifest: Manifest, part: ModelPart, notes: Sequence[str], *, failed: bool) -> None:
    """Writes ``README.md``: a model card whose metadata the hub takes.

    A base model that is no hub id is named in the text alone, as the hub would look for it.

    Args:
        folder: the bundle.
        manifest: its origin and certificate.
        part: what it changes in its base model.
        notes: how to serve it.
        failed: whether it was written in spite of its certificate.
    """
    origin, score = header(part), part.exported.retrained
    if score is not None:
        origin.append(f"These weights were trained again after the search, and score {score:.4f}.")
    text = _template().render(
        manifest=manifest,
        origin=origin,
        ranks=_by_layer(manifest.ranks),
        findings=manifest.certificate,
        failed=failed,
        notes=notes,
    )
    _save(folder, part, text, {"merged": "transformers", "gguf": "gguf"}.get(manifest.format, "peft"))


def write_origin(folder: Path, part: ModelPart) -> None:
    """Writes ``README.md`` beside a configuration without weights."""
    title = f"# {part.exported.study}, trial {part.exported.trial.number}"
    _save(folder, part, "\n".join([title, "", *header(part)]), "peft")


def _save(folder: Path, part: ModelPart, text: str, library: str) -> None:
    """A card with metadata that the hub takes."""
    source, merged = part.source, library == "transformers"
    on_hub = _HUB_ID.fullmatch(source) is not None and not source.lower().endswith(".gguf")
    data = ModelCardData(
        base_model=source if on_hub else None,
        base_model_relation=("finetune" if merged else "adapter") if on_hub else None,
        library_name=library,
        pipeline_tag=_TASKS[part.auto_class],
        tags=["rank_search", *([] if merged else ["lora"])],
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(folder / "README.md")


def finding_line(finding: Finding) -> str:
    """One finding as a line: the consumer, its version, its verdict and the reason."""
    reader = f"{finding.consumer} {finding.version} ({'real' if finding.real else 'modelled'})"
    if finding.passed is None:
        return f"{reader}: {finding.note}"
    verdict = "computes the same" if finding.passed else "FAILS"
    return f"{reader}: {verdict}, {finding.reason}"


def _by_layer(ranks: dict[str, int]) -> dict[str, str]:
    """Layer → its ranks, one where all its modules share it."""
    layers: dict[str, dict[str, int]] = {}
    for name, rank in ranks.items():
        layers.setdefault(layer_of(name), {})[name] = rank
    return {
        layer: str(next(iter(by_module.values())))
        if len(set(by_module.values())) == 1
        else ", ".join(f"{name.removeprefix(f'{layer}.')} {rank}" for name, rank in by_module.items())
        for layer, by_module in layers.items()
    }


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("rank_search.export"),
        autoescape=False,  # noqa: S701  Markdown, of our own words and checked names
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.md.j2")
