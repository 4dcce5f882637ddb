"""``choose``: the rank map that a rule chooses."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rank_search.cli.options import JsonOption, RuleOption, StorageOption, StudyArgument, TrustOption
from rank_search.cli.output import finite_or_none, print_json, print_table, progress_console
from rank_search.cli.study import open_study

if TYPE_CHECKING:
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.analysis.verdict import Verdict
    from rank_search.core.choice import Rule
    from rank_search.core.space import Space
    from rank_search.study.handle import Study


def choose(
    study: StudyArgument,
    rule: RuleOption = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Say why, and what the neighbours on the front cost or gain.")
    ] = False,
    verdict: Annotated[
        bool,
        typer.Option("--verdict", help="Compare it with its rivals on fresh seeds; trains those that are missing."),
    ] = False,
    seeds: Annotated[int, typer.Option(help="Fresh seeds that --verdict may train.", min=1)] = 10,
    trust_remote_code: TrustOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints the trial that a rule chooses, and its rank map."""
    from rank_search.app.choose import choose_map, export_command
    from rank_search.core.choice import Rule

    given = None if rule is None else Rule.parse(rule)
    opened = open_study(study, storage)
    used = str(given or opened.rule)
    trial, explanation = choose_map(opened, given, explained=explained)
    found = _verdict(opened, given, seeds, trust_code=trust_remote_code) if verdict else None
    if as_json:
        content = {"study": opened.name, "rule": used, **_content(trial)}
        content |= {"explanation": explanation} if explained else {}
        print_json(content | ({"verdict": asdict(found)} if found else {}))
        return
    _print_map(trial, opened.space, used)
    for sentence in explanation:
        print(sentence)
    if found is not None:
        print(found.text)
    if command := export_command(opened, trial, used):
        print(f"to export it: {command}")


def _verdict(study: Study, rule: Rule | None, seeds: int, *, trust_code: bool) -> Verdict:
    from rank_search.app.rule_verdict import rule_verdict  # loads torch

    return rule_verdict(study, rule, seeds, progress_console(), trust_code=trust_code)


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
