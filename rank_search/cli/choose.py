"""``choose``: the rank map that a rule chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rank_search.cli.options import DEFAULT_RULE, JsonOption, RuleOption, StorageOption, StudyArgument
from rank_search.cli.output import finite_or_none, print_json, print_table
from rank_search.cli.study import open_study

if TYPE_CHECKING:
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.space import Space


def choose(
    study: StudyArgument,
    rule: RuleOption = DEFAULT_RULE,
    explained: Annotated[
        bool, typer.Option("--explain", help="Say why, and what the neighbours on the front cost or gain.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints the trial that a rule chooses, and its rank map."""
    from rank_search.analysis.choice import Rule
    from rank_search.app.choose import choose_map, export_command

    parsed = Rule.parse(rule)
    opened = open_study(study, storage)
    trial, explanation = choose_map(opened, parsed, explained=explained)
    if as_json:
        content = {"study": opened.name, "rule": rule, **_content(trial)}
        print_json({**content, "explanation": explanation} if explained else content)
        return
    _print_map(trial, opened.space, rule)
    for sentence in explanation:
        print(sentence)
    if command := export_command(opened, trial, rule):
        print(f"to export it: {command}")


def _content(trial: ScoredTrial) -> dict[str, Any]:
    """What ``--json`` prints of the trial."""
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "score": trial.score,
        "score_se": finite_or_none(trial.score_se),
        "seeds": trial.seeds,
        "front_probability": finite_or_none(trial.front_probability),
        "trainable_parameters": trial.trainable_parameters,
        "ranks": trial.ranks,
        "settings": trial.settings,
    }


def _print_map(trial: ScoredTrial, space: Space, rule: str) -> None:
    print(
        f"trial {trial.number} ({trial.kind}): {trial.score:.4f} ± {trial.score_se:.4f} "
        f"with {trial.trainable_parameters:,} parameters"
    )
    rows = [(name, str(trial.ranks[modules[0]])) for name, modules in space.dimensions.items()]
    rows += [(name, f"{value:.4g}") for name, value in trial.settings.items()]
    print_table(f"chosen by {rule}", ("dimension", "rank or value"), rows)
