"""The command line: parse, call, print. Whatever loads torch is imported inside the command that needs it."""

from __future__ import annotations

import json
import math
import signal
import sys
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from rank_search.config import StudyConfig, load_config, source_of
from rank_search.core.errors import InputError, RankSearchError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from optuna import Study
    from rich.console import Console

    from rank_search.analysis.choice import Rule
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.study.metadata import StudyRecord
    from rank_search.study.storage import StudyFolder

DEMO = Path("configs/demo.yaml")
REPORTS = Path("reports")

app = typer.Typer(
    help="Which LoRA rank does each layer of your model deserve?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[Path, typer.Argument(help="Study file.", metavar="CONFIG")]
StudyArgument = Annotated[str, typer.Argument(help="Name under studies/, or path of a study's folder.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override, such as search.trials=40; repeatable.")]
StorageOption = Annotated[str | None, typer.Option(help="Optuna storage URL instead of the study's SQLite file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
RuleOption = Annotated[str, typer.Option(help="knee, best, within-one-se, max-parameters=N or min-score=X.")]


def main() -> None:
    """Entry point: 0 done, 2 the input is wrong, 1 it failed, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except RankSearchError as error:
        print(f"rank_search: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"rank_search: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        from rank_search.study.faults import out_of_service

        if (gone := out_of_service(error)) is None:
            raise
        print(f"rank_search: {gone}", file=sys.stderr)
        sys.exit(1)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@app.command()
def init(
    model: Annotated[
        str, typer.Option(help="Hub id, folder or package:NAME/SUBDIR; a decoder's may end in /FILE.gguf.")
    ],
    data: Annotated[str, typer.Option(help="File, folder, BEIR folder or hub id.")],
    kind: Annotated[str | None, typer.Option(help="classification, retrieval, generation or rag.")] = None,
    retriever: Annotated[str | None, typer.Option(help="Sentence embedder, for rag; --model is the generator.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; by default named after the data.")] = None,
) -> None:
    """Writes a study file for a model and a data set, after a look at both."""
    from rank_search.app.init import check_kind, draft
    from rank_search.core.files import write_text

    check_kind(kind, retriever)
    drafted = draft(model, data, kind, retriever)
    path = out or Path(f"{drafted.name}.yaml")
    if path.exists():
        raise InputError(f"{str(path)!r} exists; name another", field="--out")
    StudyConfig.model_validate(yaml.safe_load(drafted.text))
    write_text(path, drafted.text)
    print(f"{path}: look it over, then: python -m rank_search plan {path}")


@app.command()
def schema(
    template: Annotated[bool, typer.Option("--template", help="Print a commented study file instead.")] = False,
) -> None:
    """Prints the JSON schema of the study file."""
    from rank_search.config.template import template as commented

    text = commented() if template else json.dumps(StudyConfig.model_json_schema(), indent=2)
    print(text.rstrip())


@app.command()
def run(
    config: ConfigArgument = DEMO,
    overrides: SetOption = None,
    executor: Annotated[
        str | None, typer.Option(help="Where to train: local, or ray; the same as --set executor.kind=…")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Runs a study, or goes on with it, and writes its report."""
    overrides = [*(overrides or []), *([f"executor.kind={executor}"] if executor else [])]
    settings = _load(config, overrides)
    if REPORTS.exists() and not REPORTS.is_dir():
        raise InputError("is no folder, and reports go there; move it away", file=str(REPORTS))
    from rank_search.app.run import run_study

    with _naming(config, overrides):
        finished = run_study(settings, storage, _console())
    if finished is not None:
        _report(finished.study, finished.record, finished.folder, elsewhere=storage is not None)


@app.command()
def plan(config: ConfigArgument = DEMO, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Says what a study would search and cost; trains nothing."""
    settings = _load(config, overrides)
    from rank_search.app.plan import estimate_study

    with _naming(config, overrides):
        planned = estimate_study(settings)
    space = planned.space
    content = {
        "study": planned.study,
        "modules": {name: list(shape) for name, shape in space.shapes.items()},
        "dimensions": {name: list(modules) for name, modules in space.dimensions.items()},
        "ladder": list(space.ladder),
        "joint_settings": {name: [setting.low, setting.high] for name, setting in space.joint.items()},
        "space_size": space.size if math.isfinite(space.size) else None,
        "head_parameters": planned.head_parameters,
        "cut": {kind: list(counts) for kind, counts in planned.cut.items()},
        "least_parameters": space.least_parameters,
        "most_parameters": space.most_parameters,
        "trials": planned.trials,
        "baselines": dict(zip(("trained", "scored"), planned.baselines, strict=True)),
        "verdict_trainings": planned.verdict_trainings,
        "step_flops": planned.step_flops,
        "flops_rate": planned.flops_rate,
        "step_seconds": planned.step_seconds,
        "evaluation_seconds": planned.evaluation_seconds,
        "estimated_seconds": planned.seconds,
    }
    if as_json:
        print(json.dumps(content))
        return
    modules = [
        (module, f"{shape.in_features} × {shape.out_features}", dimension)
        for dimension, members in space.dimensions.items()
        for module in members
        for shape in [space.shapes[module]]
    ]
    _print_table(f"{planned.study}: adaptable modules", ("module", "in × out", "dimension"), modules)
    maps = len(space.ladder) ** len(space.dimensions)
    size = f"{maps:,}" if maps < 10**12 else f"{maps:.1e}"
    print(f"{len(space.dimensions)} dimensions, ladder {list(space.ladder)}: {size} maps")
    print(f"from {space.least_parameters:,} to {space.most_parameters:,} trainable parameters")
    for name, setting in space.joint.items():
        print(f"searched beside the ranks: {name}, {setting.low:g} to {setting.high:g}")
    if planned.head_parameters:
        print(f"and {planned.head_parameters:,} parameters of the head, which are trained in every trial")
    for kind, (cut, of) in planned.cut.items():
        if cut:
            print(f"{cut:,} of {of:,} {kind} are longer than the study file or the model allows, and are cut")
    print(
        f"a trial takes {planned.trial_seconds:.0f} s: {settings.training.steps} steps of "
        f"{planned.step_seconds:.2f} s, which is {_billions(planned.step_flops)}FLOP "
        f"at {_billions(planned.flops_rate)}FLOP a second, and an evaluation of {planned.evaluation_seconds:.1f} s"
    )
    trained, scored = planned.baselines
    print(
        f"{planned.trials} trials, {trained} baselines to train and {scored} to score, {planned.verdict_trainings} "
        f"fresh trainings for the verdict: about {planned.seconds / 60:.0f} min, if every map were the largest and "
        "trained alone"
    )


@app.command()
def status(study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Shows how far a study is, and its front."""
    opened, record, folder = _open(study, storage)
    from rank_search.analysis.front import front, hypervolume, reference_point
    from rank_search.analysis.maps import study_maps
    from rank_search.analysis.trials import scored
    from rank_search.study.table import is_running, trials_table

    trials, maps = trials_table(opened, record), study_maps(opened, record, folder)
    on_front = front(maps)
    reference = reference_point(maps, record.space.reference_parameters)
    states = {str(state): int(count) for state, count in trials["state"].value_counts().items()}
    failures = {str(reason): int(count) for reason, count in trials["reason"].dropna().value_counts().items()}
    kinds = {str(kind): int(count) for kind, count in trials["failure"].dropna().value_counts().items()}
    state = "running" if is_running(opened) else "idle"
    volume = hypervolume(maps, reference)
    if as_json:
        content = {
            "study": opened.study_name,
            "state": state,
            "trials": states,
            "front": on_front["number"].tolist(),
            "hypervolume": volume,
            "failures": failures,
            "failure_kinds": kinds,
        }
        print(json.dumps(content))
        return
    counts = ", ".join(f"{count} {name.lower()}" for name, count in states.items()) or "none"
    print(f"{opened.study_name}: {state}; trials: {counts}; hypervolume {volume:,.1f}")
    if kinds:
        print("failures: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for reason, count in failures.items():
        print(f"failed {count} ×: {reason}")
    rows = [
        (
            str(of.number),
            of.kind,
            f"{of.score:.4f} ± {of.score_se:.4f}",
            str(of.seeds),
            f"{of.trainable_parameters:,}",
            f"{of.front_probability:.2f}",
        )
        for of in scored(on_front).values()
    ]
    _print_table("front", ("trial", "kind", "score", "seeds", "parameters", "on the front"), rows)


@app.command()
def doctor(
    study: StudyArgument,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend, and say what was done.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Checks a study's database, files, leases, data and base model; exit status 1 if anything is wrong."""
    import optuna

    from rank_search.app.doctor import examine
    from rank_search.app.run import fingerprints
    from rank_search.study.storage import StudyFolder

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = examine(StudyFolder.of(study), storage, fingerprints, fix=fix)
    if as_json:
        print(json.dumps({"findings": [asdict(of) for of in found]}))
    for of in found if not as_json else ():
        does = ("mended: " if of.mended else "with --fix: ") + of.mend if of.mend else ""
        print(f"{of.where}: {of.problem}{f' ({does})' if does else ''}")
    if not found and not as_json:
        print(f"{study}: nothing is wrong")
    if any(not (of.mended or of.harmless) for of in found):
        raise typer.Exit(1)


@app.command()
def report(
    studies: Annotated[
        list[str], typer.Argument(help="Name under studies/, or path of a study's folder; several are compared.")
    ],
    watched: Annotated[bool, typer.Option("--watch", help="Keep the page fresh while the study runs.")] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Beside it, single-column PDF figures and a LaTeX table of the front.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Writes reports/STUDY/: the page, the figures, trials.csv and summary.json; or a page that compares studies."""
    if len(studies) > 1:
        if watched or paper:
            raise InputError("is for one study", field="--watch" if watched else "--paper")
        _compare(studies, storage)
    elif watched:
        from rank_search.report.watch import watch

        if paper:
            raise InputError("is for a report that is whole, without --watch", field="--paper")
        opened, record, folder = _open(studies[0], storage)
        watch(opened, record, folder, REPORTS / folder.name, print, elsewhere=storage is not None)
    else:
        _report(*_open(studies[0], storage), elsewhere=storage is not None, paper=paper)


@app.command(name="choose")
def choose_command(
    study: StudyArgument,
    rule: RuleOption = "within-one-se",
    explained: Annotated[
        bool, typer.Option("--explain", help="Say why, and what the neighbours on the front cost or gain.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints the trial that a rule chooses, and its rank map."""
    from rank_search.analysis.choice import Rule, choose
    from rank_search.analysis.explain import explain
    from rank_search.analysis.maps import study_maps

    parsed = Rule.parse(rule)
    opened, record, folder = _open(study, storage)
    maps = study_maps(opened, record, folder)
    trial = choose(maps, parsed)
    explanation = explain(maps, parsed, trial) if explained else []
    if as_json:
        content = {
            "study": opened.study_name,
            "rule": rule,
            "trial": trial.number,
            "kind": trial.kind,
            "score": trial.score,
            "score_se": trial.score_se if math.isfinite(trial.score_se) else None,
            "seeds": trial.seeds,
            "front_probability": trial.front_probability,
            "trainable_parameters": trial.trainable_parameters,
            "ranks": trial.ranks,
            "settings": trial.settings,
            **({"explanation": explanation} if explained else {}),
        }
        print(json.dumps(content))
        return
    print(
        f"trial {trial.number} ({trial.kind}): {trial.score:.4f} ± {trial.score_se:.4f} "
        f"with {trial.trainable_parameters:,} parameters"
    )
    rows = [(name, str(trial.ranks[modules[0]])) for name, modules in record.space.dimensions.items()]
    rows += [(name, f"{value:.4g}") for name, value in trial.settings.items()]
    _print_table(f"chosen by {rule}", ("dimension", "rank or value"), rows)
    for sentence in explanation:
        print(sentence)
    if folder.adapter(trial.number).is_dir() or trial.trainable_parameters:
        retrain = "" if folder.adapter(trial.number).is_dir() else " --retrain"
        name = folder.called(elsewhere=storage is not None)
        print(f"take it with you: python -m rank_search export {name} --rule {rule} --to peft --out adapter{retrain}")


@app.command()
def export(
    study: StudyArgument,
    to: Annotated[str, typer.Option(help="A format; see README: peft, compact, padded, gguf, merged, axolotl, trl …")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    trial: Annotated[int | None, typer.Option(help="Trial to export, instead of a rule's choice.")] = None,
    rule: RuleOption = "within-one-se",
    force: Annotated[bool, typer.Option("--force", help="Write trained weights that fail their certificate.")] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the trial again, if the study did not keep its weights.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Writes a chosen map for other tools: trained weights, proved first, or a configuration for a fresh training."""
    from rank_search.analysis.choice import Rule
    from rank_search.export.choice import Choice
    from rank_search.export.formats import write_export

    parsed = Rule.parse(rule)
    opened, record, folder = _open(study, storage)
    picked = _chosen(opened, record, folder, parsed) if trial is None else _trial(opened, record, trial)

    def train_again() -> None:
        from rank_search.app import run as workflow

        workflow.retrain(workflow.Finished(opened, record, folder), picked.number, _console())

    choice = Choice(opened.study_name, record, folder, picked)
    told = write_export(choice, to, out, force=force, retrain=train_again if retrain else None)
    print(f"trial {picked.number} as {to}: {out}")
    for line in told:
        print(f"  {line}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="What export wrote.", metavar="DIR")],
    consumer: Annotated[
        list[str] | None, typer.Option(help="Try this one alone, such as vllm; repeatable. By default: its format's.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Try all that can open the format.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the base model ships.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Computes what consumers make of exported weights, and fails unless it is what the trained adapter does."""
    from rank_search.export.certificate import bundles
    from rank_search.export.certificate import verify as certified

    names = [] if everyone else consumer
    findings = {path: certified(path, names, trust_remote_code=trust_remote_code) for path in bundles(folder)}
    # One that was asked for by name, and can't read such a model, is no proof; nor is a bundle that nobody reads.
    wrong = (False, None) if consumer else (False,)
    failed = any(of.passed in wrong for found in findings.values() for of in found) or any(
        not any(of.passed for of in found) for found in findings.values()
    )
    if as_json:
        content = {
            "passed": not failed,
            "bundles": {
                str(path): [finding.model_dump(mode="json") for finding in found] for path, found in findings.items()
            },
        }
        print(json.dumps(content))
    else:
        for path, found in findings.items():
            rows = [
                (
                    of.consumer,
                    of.version,
                    "real" if of.real else "modelled",
                    "" if of.difference is None else f"{of.difference:.1e}",
                    "" if of.of_output is None else f"{of.of_output:.1e}",
                    {True: "pass", False: "FAIL", None: "–"}[of.passed] + (f" {of.note}" if of.note else ""),
                )
                for of in found
            ]
            columns = ("consumer", "version", "", "of the effect", "of the output", "")
            _print_table(f"{path}: largest relative difference", columns, rows)
    if failed:
        raise typer.Exit(1)


def _load(config: Path, overrides: list[str] | None) -> StudyConfig:
    """The study file; one that ships with the package is found wherever it is installed."""
    path = config
    if not path.exists() and path.parent == DEMO.parent:
        package = Path(str(files("rank_search")))
        # In a wheel the configs lie inside the package; in a checkout, beside it.
        shipped = [folder / path.name for folder in (package / "configs", package.parent / "configs")]
        path = next((candidate for candidate in shipped if candidate.is_file()), path)
    return load_config(path, overrides or ())


@contextmanager
def _naming(config: Path, overrides: list[str] | None) -> Iterator[None]:
    """Names the study file, or ``--set``, in errors about fields that only the model or the study could reveal."""
    try:
        yield
    except InputError as error:
        if error.field is None or error.field.startswith("--"):
            raise
        raise error.in_file(source_of(error.field, config, overrides or ())) from None


def _open(study: str, storage: str | None) -> tuple[Study, StudyRecord, StudyFolder]:
    import optuna

    from rank_search.study.storage import StudyFolder, load_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = StudyFolder.of(study)
    return (*load_study(folder, storage), folder)


def _chosen(study: Study, record: StudyRecord, folder: StudyFolder, rule: Rule) -> ScoredTrial:
    from rank_search.analysis.choice import choose
    from rank_search.analysis.maps import study_maps

    return choose(study_maps(study, record, folder), rule)


def _trial(study: Study, record: StudyRecord, number: int) -> ScoredTrial:
    from rank_search.analysis.trials import scored
    from rank_search.study.table import trials_table

    trials = scored(trials_table(study, record))
    if number not in trials:
        raise InputError(f"{number} is no finished trial of {study.study_name!r}; see status", field="--trial")
    return trials[number]


def _report(study: Study, record: StudyRecord, folder: StudyFolder, *, elsewhere: bool, paper: bool = False) -> None:
    from rank_search.report.page import write_report

    out = REPORTS / folder.name
    summary = write_report(study, record, folder, out, elsewhere=elsewhere, paper=paper)
    print(summary.verdict.text)
    print(f"report: {out / 'index.html'}")


def _compare(studies: list[str], storage: str | None) -> None:
    from rank_search.report.compare import write_comparison
    from rank_search.report.summary import summarise

    opened = [_open(study, storage) for study in studies]
    out = REPORTS / "+".join(folder.name for _, _, folder in opened)
    write_comparison([summarise(*of) for of in opened], out)
    print(f"report: {out / 'index.html'}")


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _billions(value: float) -> str:
    return f"{value / 1e9:,.0f} G" if value >= 1e10 else f"{value / 1e9:.2g} G"


def _print_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
