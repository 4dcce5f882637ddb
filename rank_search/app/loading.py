"""From a study file to its task, its space and its metadata."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.adapters import base_models, check_exportable, unsupported_modules
from rank_search.config import recorded, refuse_model_code
from rank_search.core.errors import InputError
from rank_search.core.rank_curve import RankCurve
from rank_search.models.library_logs import silence_library_logs
from rank_search.models.modules import build_space
from rank_search.models.source import choose_device, settings_files
from rank_search.study.metadata import StudyMetadata, environment, refuse_change, refuse_changed_settings
from rank_search.tasks.calls import uncalled_modules
from rank_search.tasks.load import load_skeleton, load_task

if TYPE_CHECKING:
    from torch import nn

    from rank_search.config import ModelSource, StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.study.handle import Study
    from rank_search.tasks.base import Task


def load_study_task(config: StudyConfig) -> tuple[Task, Space]:
    """The task and what is searched; refuses what it can before weights are loaded.

    Raises:
        InputError: settings, data or model are wrong.
        RankSearchError: what would be trained can't be exported.
    """
    skeleton = load_skeleton(config)
    unsupported = unsupported_modules(skeleton)
    build_space(skeleton, config, unsearchable=unsupported)
    task = load_task(config)
    _check_classes(config, skeleton, task.backbone)
    space = build_space(task.backbone, config, task.head, unsupported | uncalled_modules(task))
    check_exportable(skeleton, space, task.head)
    return task, space


def _check_classes(config: StudyConfig, skeleton: nn.Module, backbone: nn.Module) -> None:
    """Checks that the classes that are trained are those that adapters are exported for.

    Raises:
        InputError: one is not.
    """
    loaded = base_models(backbone)
    for prefix, model in base_models(skeleton).items():
        recorded, trained = type(model).__name__, type(loaded[prefix]).__name__
        if recorded != trained:
            source = config.base_models[prefix].source
            raise InputError(
                f"{source!r} is trained as {trained}, but an adapter for {recorded} would be exported; name another "
                "model",
                field="model.source",
            )


def left_out_lines(space: Space) -> list[str]:
    """What the study's targets mean and what is not searched, a line for each reason; numbers in names are ``*``."""
    places: dict[str, dict[str, int]] = {}
    for name, reason in space.left_out.items():
        counts = places.setdefault(reason, {})
        place = re.sub(r"\.\d+(?=\.|$)", ".*", name)
        counts[place] = counts.get(place, 0) + 1
    return [
        "not searched: " + ", ".join(f"{place} ({count})" for place, count in counts.items()) + f", which {reason}"
        for reason, counts in places.items()
    ]


def new_metadata(config: StudyConfig, space: Space, task: Task) -> StudyMetadata:
    """The metadata of a study that starts now."""
    return StudyMetadata(
        identity=uuid.uuid4().hex,
        config=config.frozen(),
        space=space,
        head=task.head,
        head_parameters=head_parameters(task),
        classes=task.classes,
        cut=task.cut,
        notes=task.notes,
        data_fingerprint=task.data_fingerprint,
        model_fingerprint=task.fingerprint,
        environment=environment(str(choose_device(config.model))),
        model_files=_model_files(config),
    )


def _model_files(config: StudyConfig) -> dict[str, str]:
    """SHA-256 of the files beside the weights of each base model, by field of the study file and path."""
    retriever: ModelSource | None = getattr(config.task, "retriever", None)
    models = {"model": config.model, **({"task.retriever": retriever} if retriever else {})}
    return {
        f"{field}: {name}": digest for field, model in models.items() for name, digest in settings_files(model).items()
    }


def head_parameters(task: Task) -> int:
    """Parameters of the modules that a task trains whole."""
    return sum(weight.numel() for name in task.head for weight in task.backbone.get_submodule(name).parameters())


def refuse_other(kept: StudyMetadata, given: StudyMetadata) -> None:
    """Checks that a study would go on with the settings, data, model and modules that it was started with.

    Where the data and the model lie does not matter.

    Raises:
        InputError: naming the first field that differs.
    """
    refuse_changed_settings(kept.config, given.config)
    refuse_change(kept.data_fingerprint, given.data_fingerprint, "task.data")
    refuse_change(kept.model_fingerprint, given.model_fingerprint, "model.source")
    if changed := sorted(kept.space.shapes.keys() ^ given.space.shapes.keys()):
        was = "was" if changed[0] in kept.space.shapes else "was not"
        raise InputError(
            f"{changed[0]!r} {was} searched when the study was started, by another version; go on with that, or give "
            "the study another name",
            field="space.targets",
        )
    for file in sorted(kept.model_files.keys() & given.model_files.keys()):
        if kept.model_files[file] != given.model_files[file]:
            field, _, name = file.partition(": ")
            raise InputError(
                f"{name} of the model is not what it was when the study was started; restore it, or give the study "
                "another name",
                field=f"{field}.source",
            )


def fingerprints(study: Study, *, trust_code: bool = False) -> tuple[str, str]:
    """Fingerprints of the data and of the base model of a study, as they are now.

    Args:
        study: the study.
        trust_code: run Python code that the base model ships.

    Raises:
        InputError: they can't be loaded, or not without code that the user does not trust.
    """
    silence_library_logs()
    content = study.metadata.config
    refuse_model_code(content, trust_code=trust_code)
    config = recorded(content, trust_code=trust_code)
    no_augmentation = config.training.model_copy(update={"augmentation": "none"})  # nothing is trained
    task, _ = load_study_task(config.model_copy(update={"training": no_augmentation}))
    return task.data_fingerprint, task.fingerprint


def read_prior(config: StudyConfig, space: Space) -> RankMap | None:
    """The map nearest to the rank curve of another study, if the study file names one.

    Raises:
        InputError: the file is no rank curve.
    """
    return RankCurve.read(Path(config.space.prior)).rank_map(space) if config.space.prior else None
