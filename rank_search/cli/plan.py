"""``plan``: what a study would search and cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rank_search.cli.options import DEMO, ConfigArgument, JsonOption, SetOption
from rank_search.cli.output import finite_or_none, format_billions, print_json, print_table
from rank_search.core.errors import printable

if TYPE_CHECKING:
    from rank_search.app.plan import Estimate
    from rank_search.core.space import Space


def plan(config: ConfigArgument = DEMO, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Shows what a study would search and cost; trains nothing."""
    from rank_search.app.configs import load_study_file, naming_source

    settings = load_study_file(config, overrides or ())
    from rank_search.analysis.power import sentences
    from rank_search.app.plan import estimate_study  # loads torch, so after the check

    with naming_source(config, overrides or ()):
        estimate = estimate_study(settings)
    if as_json:
        print_json(_content(estimate))
        return
    _print_space(estimate.study, estimate.space)
    _print_cost(estimate, settings.training.steps)
    for sentence in sentences(estimate.power, settings.task.metric):
        print(sentence)


def _content(estimate: Estimate) -> dict[str, Any]:
    """What ``--json`` prints."""
    space = estimate.space
    return {
        "study": estimate.study,
        "modules": {name: list(shape) for name, shape in space.shapes.items()},
        "dimensions": {name: list(modules) for name, modules in space.dimensions.items()},
        "left_out": dict(space.left_out),
        "ladder": list(space.ladder),
        "joint_settings": {name: [setting.low, setting.high] for name, setting in space.joint.items()},
        "space_size": finite_or_none(space.size),
        "head_parameters": estimate.head_parameters,
        "cut": {kind: list(counts) for kind, counts in estimate.cut.items()},
        "notes": list(estimate.notes),
        "least_parameters": space.least_parameters,
        "most_parameters": space.most_parameters,
        "trials": estimate.trials,
        "baselines": dict(zip(("trained", "scored"), estimate.baselines, strict=True)),
        "rate_trainings": estimate.rate_trainings,
        "verdict_trainings": estimate.verdict_trainings,
        "step_flops": estimate.step_flops,
        "flops_rate": estimate.flops_rate,
        "step_seconds": estimate.step_seconds,
        "evaluation_seconds": estimate.evaluation_seconds,
        "estimated_seconds": estimate.seconds,
        "power": asdict(estimate.power),
    }


def _print_space(study: str, space: Space) -> None:
    from rank_search.app.loading import left_out_lines  # loads torch

    rows = [
        (module, f"{space.shapes[module].in_features} × {space.shapes[module].out_features}", dimension)
        for dimension, modules in space.dimensions.items()
        for module in modules
    ]
    print_table(f"{study}: adaptable modules", ("module", "in × out", "dimension"), rows)
    for line in left_out_lines(space):
        print(line)
    maps = len(space.ladder) ** len(space.dimensions)
    size = f"{maps:,}" if maps < 10**12 else f"{maps:.1e}"
    print(f"{len(space.dimensions)} dimensions, ladder {list(space.ladder)}: {size} maps")
    print(f"from {space.least_parameters:,} to {space.most_parameters:,} trainable parameters")
    for name, setting in space.joint.items():
        print(f"searched together with the ranks: {name}, {setting.low:g} to {setting.high:g}")


def _print_cost(estimate: Estimate, steps: int) -> None:
    if estimate.head_parameters:
        print(f"and {estimate.head_parameters:,} parameters of the head, which are trained in every trial")
    for note in estimate.notes:
        print(printable(note))
    for kind, (cut, total) in estimate.cut.items():
        if cut:
            print(f"{cut:,} of {total:,} {kind} are longer than the study file or the model allows, and are cut")
    print(
        f"a trial takes {estimate.trial_seconds:.0f} s: {steps} steps of "
        f"{estimate.step_seconds:.2f} s, which is {format_billions(estimate.step_flops)}FLOP "
        f"at {format_billions(estimate.flops_rate)}FLOP a second, and an evaluation of "
        f"{estimate.evaluation_seconds:.1f} s"
    )
    trained, scored = estimate.baselines
    print(
        f"{estimate.rate_trainings} trainings for learning rates, {estimate.trials} trials, {trained} baselines to "
        f"train and {scored} to score, {estimate.verdict_trainings} fresh trainings for the verdict: about "
        f"{estimate.seconds / 60:.0f} min, if every map were the largest and "
        "trained alone"
    )
