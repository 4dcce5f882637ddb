"""The recipes of CONTRIBUTING.md: each is followed in a copy of the package, and what was added is used there.

The files that a recipe adds stand in tests/contributing/, where the document shows them too.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from rank_search.export.formats import write_export
from tests.bench import SPACE
from tests.conftest import ROOT
from tests.export.conftest import bases, exported_trial  # noqa: F401  fixtures
from tests.tasks.conftest import generator

DOCUMENT = ROOT / "CONTRIBUTING.md"


def snippet(name: str) -> str:
    return (Path(__file__).parent / "contributing" / f"{name}.py.txt").read_text()


# What is added by a recipe: new files, and what is put before a text that stands once in a file.
CONSUMER = {"export/consumers/ember.py": snippet("consumer")}
PROPOSAL_RULE = {
    "search/proposals/hill_climb.py": snippet("proposal_rule"),
    "search/proposals/samplers.py": [
        ("from rank_search.study.", "from rank_search.search.proposals.hill_climb import HillClimber\n"),
        ("}\n\n\ndef sampler_maker(", '    "hill-climb": HillClimber,\n'),
    ],
    "config/search.py": [('] = Field(\n        "nehvi"', ', "hill-climb"')],
}
TASK = {
    "data/plain_texts.py": snippet("task_data"),
    "tasks/language_modelling.py": snippet("task"),
    "config/tasks.py": [
        ("AnyTask = ", snippet("task_config")),
        (" | RagConfig, Field(", " | LanguageModellingConfig"),
    ],
    "config/__init__.py": [
        ("    RagConfig,\n", "    LanguageModellingConfig,\n"),
        ('    "ModelConfig",\n', '    "LanguageModellingConfig",\n'),
    ],
    "tasks/load.py": [
        ("    RagConfig,\n", "    LanguageModellingConfig,\n"),
        ("from rank_search.data.searchable ", "from rank_search.data.plain_texts import load_plain_texts\n"),
        ("from rank_search.tasks.rag ", "from rank_search.tasks.language_modelling import LanguageModellingTask\n"),
        (":\n            return skeleton(config.model, AutoModelForCausalLM)", " | LanguageModellingConfig()"),
        ("        case RagConfig() as settings:\n", snippet("task_load")),
    ],
    "export/training_plan.py": [
        ("RagConfig\n\nif", "LanguageModellingConfig, "),
        (
            "        if not isinstance(task, GenerationConfig",
            "        if isinstance(task, LanguageModellingConfig):\n            return task.length\n",
        ),
    ],
}

COMMANDS = """
import json, sys
import rank_search
assert rank_search.__file__.startswith(sys.argv[1]), rank_search.__file__
from rank_search.cli.main import main
for line in json.loads(sys.argv[2]):
    sys.argv = ["rank_search", *line]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""
SEARCH = """
import json, sys
from pathlib import Path
from rank_search.study.folder import StudyFolder
from tests.bench import Bench
Path("small").mkdir()
study = Bench(StudyFolder(Path("small"))).search(int(sys.argv[2]), sampler="hill-climb")
print(json.dumps([[trial.values[0], trial.params] for trial in study.trials]))
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the package, in a folder of its own."""

    folder: Path

    def follow(self, recipe: dict[str, str | list[tuple[str, str]]]) -> None:
        """Adds the files of a recipe, and the lines in other files."""
        for path, added in recipe.items():
            file = self.folder / "rank_search" / path
            assert file.exists() == isinstance(added, list)
            text = file.read_text() if isinstance(added, list) else added
            for place, addition in added if isinstance(added, list) else []:
                assert text.count(place) == 1, (path, place)
                text = text.replace(place, addition + place)
            file.write_text(text)

    def python(self, script: str, *arguments: str) -> str:
        """What a script prints that imports the copy."""
        result = subprocess.run(
            [sys.executable, "-c", script, str(self.folder), *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def commands(self, *lines: tuple[str, ...]) -> str:
        """What command lines print, run one after another in one process."""
        return self.python(COMMANDS, json.dumps(lines))


@pytest.fixture
def package(tmp_path) -> Copy:
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "rank_search", folder / "rank_search", ignore=shutil.ignore_patterns("__pycache__"))
    return Copy(folder)


@pytest.mark.slow
def test_a_consumer_is_one_new_file(package, exported_trial, bench, tmp_path) -> None:  # noqa: F811  fixture
    bench.search(6)
    write_export(exported_trial("generation"), "compact", tmp_path / "compact")
    package.follow(CONSUMER)
    out = package.commands(
        ("export", str(bench.folder.path), "--trial", "3", "--to", "ember-train", "--out", "train"),
        ("verify", str(tmp_path / "compact"), "--consumer", "ember", "--json"),
    )
    assert "ember train ember.json" in out
    trained = json.loads((package.folder / "train" / "ember.json").read_text())
    assert trained["ranks"] == {f"layer.{i}.w": 4 for i in range(4)}
    ((finding,),) = json.loads(out.splitlines()[-1])["bundles"].values()
    assert (finding["consumer"], finding["version"], finding["real"], finding["passed"]) == (
        "Ember",
        "1.2",
        False,
        True,
    )


@pytest.mark.slow
def test_a_proposal_rule_is_a_sampler_with_a_name(package) -> None:
    package.follow(PROPOSAL_RULE)
    trials = json.loads(package.python(SEARCH, "8"))
    uniform, proposed = trials[:4], trials[5:]  # the fifth is a family
    best = dict.fromkeys(SPACE.dimensions, 3)  # the largest uniform map
    assert max(uniform)[1] == best
    distances = [sum(abs(params[name] - best[name]) for name in best) for _, params in proposed]
    assert distances == [1] * 3
    assert len({json.dumps(params) for _, params in proposed}) == 3


@pytest.mark.training
def test_a_task_is_settings_data_and_a_task(package) -> None:
    model = generator()
    model.model.save_pretrained(package.folder / "model")
    model.tokenizer.save_pretrained(package.folder / "model")
    rows = [{"text": f"the number {i} is followed by {i + 1}"} for i in range(40)]
    (package.folder / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    study = {
        "study": "texts",
        "model": {"source": "model"},
        "task": {"kind": "language-modelling", "data": "texts.jsonl", "length": 16},
        "space": {"ladder": [0, 2]},
        "training": {"steps": 3, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2},
        "search": {
            "trials": 2,
            "repeats": 0,
            "baselines": [],
            "verdict_seeds": 0,
            "tune_uniform": [],
            "pack": 2,
            "sampler": "random",
        },
    }
    (package.folder / "texts.yaml").write_text(yaml.safe_dump(study))
    package.follow(TASK)
    package.commands(
        ("run", "texts.yaml"),
        ("export", "texts", "--trial", "1", "--to", "peft", "--out", "adapter"),
        ("export", "texts", "--trial", "1", "--to", "trl", "--out", "trl"),
    )
    summary = json.loads((package.folder / "reports" / "texts" / "summary.json").read_text())
    assert (summary["task"], summary["metric"]) == ("language-modelling", "log-likelihood")
    untrained, trained = (trial["score"] for trial in summary["trials"])
    assert untrained < trained < 0
    assert "max_length=16" in (package.folder / "trl" / "train.py").read_text().replace(" ", "")
    assert (package.folder / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("recipe", [CONSUMER, PROPOSAL_RULE, TASK], ids=["consumer", "proposal rule", "task"])
def test_the_document_names_every_place_of_a_recipe(recipe) -> None:
    text = DOCUMENT.read_text()
    for path, added in recipe.items():
        place = path if isinstance(added, list) else Path(path).parent
        assert f"rank_search/{place}" in text
