"""Configurations and scripts for a fresh training at a map, one writer a trainer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rank_search.adapters import adapter_folder, base_models, lora_config
from rank_search.config import GenerationConfig, RagConfig
from rank_search.core.errors import RankSearchError
from rank_search.core.files import write_text
from rank_search.export.origin import header, write_origin
from rank_search.models.modules import linear_modules
from rank_search.tasks.load import load_skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peft import LoraConfig

    from rank_search.export.choice import Choice, Part

_QUESTION = 256  # tokens for a question and the words around it

_TEMPLATES = Environment(
    loader=PackageLoader("rank_search.export"),
    autoescape=False,  # noqa: S701  Python and YAML; what goes in is written as literals
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def write_trainer(choice: Choice, form: str, out: Path) -> list[str]:
    """Writes a configuration for each base model; of several, each into a folder of its own.

    Returns:
        What to tell the user.

    Raises:
        RankSearchError: the trainer can't train this kind of model, or has no way to say this map.
    """
    models = base_models(load_skeleton(choice.config))
    parts, told = choice.parts, []
    causal = [part for part in parts if part.auto_class == "AutoModelForCausalLM"]
    if form != "lora-config" and causal and len(causal) < len(parts):  # of a RAG study
        parts, told = causal, ["the generator alone; the retriever's part is in --to lora-config"]
    for part in parts:
        names = tuple(linear_modules(models[part.prefix]))
        config = lora_config(
            part.rank_map,
            choice.config.adapter,
            base_model=part.model.source,
            head=choice.record.head,
            fan_in_fan_out=part.transposed,
            others=names,
        )
        folder = adapter_folder(out, part.prefix)
        folder.mkdir(exist_ok=True)
        told += _WRITERS[form](_Plan(part, config, names), folder)
    return told


@dataclass(frozen=True)
class _Plan:
    """A fresh training of one base model.

    Attributes:
        part: the map and its base model.
        config: both as PEFT has them.
        names: the base model's linear layers.
    """

    part: Part
    config: LoraConfig
    names: tuple[str, ...]

    def of_a_causal_lm(self, trainer: str) -> None:
        """Checks that the base model is one.

        Raises:
            RankSearchError: it is not.
        """
        if self.part.auto_class != "AutoModelForCausalLM":
            raise RankSearchError(f"{trainer} trains causal LMs, and this study's model is none; use --to lora-config")

    def of_no_gguf_file(self, trainer: str) -> None:
        """Checks that the base model is no GGUF file.

        Raises:
            RankSearchError: it is one.
        """
        if _located(self.part)["gguf_file"]:
            raise RankSearchError(
                f"{trainer} trains from no GGUF file, and {self.part.model.source!r} is one; use --to trl, or search "
                "on the original model"
            )

    @property
    def length(self) -> int:
        """Tokens that hold the study's longest prompt and answer."""
        task = self.part.choice.config.task
        if not isinstance(task, GenerationConfig | RagConfig):
            raise TypeError(task.kind)
        return task.passages * task.passage_length + task.max_new_tokens + _QUESTION

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the configuration that differ from PEFT's defaults, as literals."""
        given = vars(self.config)
        names = (
            "r",
            "lora_alpha",
            "lora_dropout",
            "use_rslora",
            "target_modules",
            "exclude_modules",
            "rank_pattern",
            "alpha_pattern",
        )
        found = {name: given[name] for name in names if given[name] not in (None, {})}
        return {**found, "target_modules": list(self.part.rank_map.adapted)}


def _lora_config(plan: _Plan, out: Path) -> list[str]:
    """``adapter_config.json`` without weights, and where it comes from; PEFT decides how A starts."""
    plan.config.save_pretrained(str(out))
    write_origin(out, plan.part)
    return []


def _axolotl(plan: _Plan, out: Path) -> list[str]:
    """``axolotl.yaml``, to which the user adds data; axolotl takes whole numbers for α alone."""
    plan.of_a_causal_lm("axolotl")
    plan.of_no_gguf_file("axolotl")
    given = plan.settings
    alphas = [given["lora_alpha"], *given.get("alpha_pattern", {}).values()]
    if fraction := next((alpha for alpha in alphas if alpha != int(alpha)), None):
        raise RankSearchError(f"axolotl takes whole numbers for α, and this map has {fraction:g}; use --to trl")
    training = plan.part.choice.config.training
    content = {
        "base_model": plan.part.source,
        **({"revision_of_model": plan.part.model.revision} if plan.part.model.revision else {}),
        "adapter": "lora",
        "lora_r": given["r"],
        "lora_alpha": int(given["lora_alpha"]),
        "lora_dropout": given["lora_dropout"],
        "peft_use_rslora": given["use_rslora"],
        # A list would match what ends in its names, and axolotl's schema drops exclusions without a word.
        "lora_target_modules": "|".join(map(re.escape, given["target_modules"]))
        if "exclude_modules" in given
        else given["target_modules"],
        "lora_rank_pattern": given["rank_pattern"],
        **({"lora_alpha_pattern": given["alpha_pattern"]} if "alpha_pattern" in given else {}),
        "max_steps": training.steps,
        "micro_batch_size": training.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": training.learning_rate,
        "lr_scheduler": "linear",
        "warmup_ratio": training.warmup,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optimizer": "adamw_torch",
        "sequence_len": plan.length,
        "seed": plan.part.choice.config.seed,
        "output_dir": "./outputs",
        "datasets": [{"path": "YOUR_DATA.jsonl", "type": "chat_template"}],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(out / "axolotl.yaml", _commented(plan.part) + "# Name your data under datasets.\n" + text)
    return ["axolotl train axolotl.yaml (name your data in it first)"]


def _script(form: str, trainer: str) -> Callable[[_Plan, Path], list[str]]:
    """A short Python script that takes a JSON Lines file of prompts and completions."""

    def write(plan: _Plan, out: Path) -> list[str]:
        plan.of_a_causal_lm(trainer)
        if form == "unsloth":
            plan.of_no_gguf_file(trainer)
            if "lm_head" in plan.part.rank_map.adapted:
                raise RankSearchError("Unsloth trains lm_head whole, whatever its rank; use --to trl")
        settings: Mapping[str, Any] = plan.settings
        if form == "ms-swift":
            settings = in_swifts_matching(settings, plan.names)
        text = _TEMPLATES.get_template(f"{form}.py.j2").render(
            header=_commented(plan.part),
            model=plan.part.model,
            located=_located(plan.part),
            settings=settings,
            training=plan.part.choice.config.training,
            length=plan.length,
            seed=plan.part.choice.config.seed,
            literal=_literal,
        )
        write_text(out / "train.py", text)
        return ["python train.py DATA.jsonl (rows with prompt and completion)"]

    return write


def in_swifts_matching(settings: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    r"""The patterns under keys that ms-swift matches: ``.*\\.KEY$``, which no anchored key can.

    The first part of a name is left out of its key, as something must stand before the dot. ms-swift looks for a key
    among those of both patterns, and takes rank and α by the same one.

    Raises:
        RankSearchError: a key would match another module too, or a name has no dot.
    """
    found = dict(settings)
    for pattern in ("rank_pattern", "alpha_pattern"):
        keys = {}
        for anchored, value in settings.get(pattern, {}).items():
            key = anchored.removeprefix("^").partition(r"\.")[2]
            matched = [name for name in names if key and re.match(rf".*\.{key}$", name)]
            if len(matched) != 1:
                raise RankSearchError(
                    f"ms-swift matches names by their ending, and can't tell {anchored.removeprefix('^')} from others "
                    "in this model; use --to trl"
                )
            keys[key] = value
        if keys:
            found[pattern] = keys
    return found


def _located(part: Part) -> dict[str, str | None]:
    """Where the script finds the model: a folder or hub id, and a GGUF file in it."""
    from rank_search.models.source import locate

    located = locate(part.model)
    place = Path(located.place)
    return {"place": str(place.resolve()) if place.is_dir() else located.place, "gguf_file": located.gguf_file}


def _commented(part: Part) -> str:
    return "".join(f"# {line}\n" for line in header(part))


def _literal(value: Any, indent: int = 4) -> str:
    """A value as Python source, long ones over several lines."""
    text = repr(value)
    if len(text) <= 80 or not isinstance(value, dict | list):
        return text
    rows = [f"{k!r}: {v!r}" for k, v in value.items()] if isinstance(value, dict) else [repr(v) for v in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    inner = "".join(f"{' ' * (indent + 4)}{row},\n" for row in rows)
    return f"{opening}\n{inner}{' ' * indent}{closing}"


_WRITERS: dict[str, Callable[[_Plan, Path], list[str]]] = {
    "lora-config": _lora_config,
    "axolotl": _axolotl,
    "trl": _script("trl", "TRL"),
    "unsloth": _script("unsloth", "Unsloth"),
    "ms-swift": _script("ms-swift", "ms-swift"),
}
