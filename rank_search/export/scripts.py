"""Training scripts from the templates beside their consumers, as Python source with literal settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rank_search.core.files import write_text
from rank_search.export.origin import header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.export.exported_trial import ModelPart
    from rank_search.export.training_plan import TrainingPlan


def write_script(template: str, plan: TrainingPlan, lora_settings: Mapping[str, Any], out: Path) -> list[str]:
    """Writes ``train.py``, which takes a JSON Lines file of prompts and completions.

    Args:
        template: name of a file in ``rank_search/export/consumers``.
        plan: the training.
        lora_settings: arguments of the trainer's LoRA configuration.
        out: the folder.

    Returns:
        How to run it.
    """
    environment = Environment(
        loader=PackageLoader("rank_search.export", "consumers"),
        autoescape=False,  # noqa: S701  Python; what goes in is written as literals
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    config = plan.part.exported.config
    text = environment.get_template(template).render(
        header=comment(plan.part),
        model=plan.part.model,
        located=model_location(plan.part),
        settings=lora_settings,
        training=config.training,
        length=plan.length,
        seed=config.seed,
        literal=literal,
    )
    write_text(out / "train.py", text)
    return ["python train.py DATA.jsonl (rows with prompt and completion)"]


def model_location(part: ModelPart) -> dict[str, str | None]:
    """Where a script finds the model: ``place``, a folder or hub id, and ``gguf_file``, the GGUF file in it or None."""
    from rank_search.models.source import locate

    located = locate(part.model)
    place = Path(located.path_or_id)
    return {"place": str(place.resolve()) if place.is_dir() else located.path_or_id, "gguf_file": located.gguf_file}


def comment(part: ModelPart) -> str:
    """Where a configuration comes from, as comments of Python or YAML."""
    return "".join(f"# {line}\n" for line in header(part))


def literal(value: Any, indent: int = 4) -> str:
    """A value as Python source; a list or dictionary that is too long for one line gets a line for each element."""
    text = repr(value)
    if len(text) <= 80 or not isinstance(value, dict | list):
        return text
    rows = [f"{k!r}: {v!r}" for k, v in value.items()] if isinstance(value, dict) else [repr(v) for v in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    inner = "".join(f"{' ' * (indent + 4)}{row},\n" for row in rows)
    return f"{opening}\n{inner}{' ' * indent}{closing}"
