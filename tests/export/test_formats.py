import contextlib
import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig

from rank_search.analysis.trials import ScoredTrial, scored
from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.export.choice import Choice
from rank_search.export.formats import write_export
from rank_search.study.table import trials_table
from tests.bench import SPACE, record, study_config


@pytest.fixture
def choice_of(bench):
    study = bench.search(8)
    trials = scored(trials_table(study, record()))
    return lambda number: Choice("small", record(), bench.folder, trials[number])


def test_rank_map(choice_of, tmp_path) -> None:
    choice = choice_of(2)
    write_export(choice, "rank-map", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "rank_map.json").read_text())
    assert written["ranks"] == {f"layer.{i}.w": 2 for i in range(4)}
    assert (written["study"], written["trial"], written["score"]) == ("small", 2, choice.trial.score)
    assert written["trainable_parameters"] == choice.trial.trainable_parameters


def test_lora_config_is_one_that_peft_reads(choice_of, tmp_path) -> None:
    write_export(choice_of(3), "lora-config", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "README.md"}
    assert "study small, trial" in (tmp_path / "out" / "README.md").read_text()
    config = LoraConfig.from_pretrained(str(tmp_path / "out"))
    assert config.rank_pattern == {f"^layer\\.{i}\\.w": 4 for i in range(4)}
    assert config.use_rslora
    assert config.lora_alpha == 4


def test_trial_without_an_adapter_says_which_have_one(chosen, tmp_path) -> None:
    choice = chosen()
    other = dataclasses.replace(choice, trial=dataclasses.replace(choice.trial, number=3))
    with pytest.raises(RankSearchError, match=r"trial 3 has no saved adapter: .*\(trials 7\)"):
        write_export(other, "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["peft", "lora-config"])
def test_map_of_zeros_has_no_adapter_to_export(choice_of, tmp_path, form) -> None:
    with pytest.raises(RankSearchError, match="use the base model as it is"):
        write_export(choice_of(0), form, tmp_path / "out")
    write_export(choice_of(0), "rank-map", tmp_path / "out")


def test_full_folder_is_left_alone(choice_of, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"--out: .* is not an empty folder"):
        write_export(choice_of(1), "rank-map", tmp_path / "out")
    with pytest.raises(InputError, match="--out"):
        write_export(choice_of(1), "rank-map", tmp_path / "out" / "mine.txt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_export_never_reaches_beside_the_folder_it_was_given(choice_of, tmp_path, monkeypatch) -> None:
    """``new/..`` is the current folder, though there is no ``new``."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="is the current folder; name a new one"):
        write_export(choice_of(1), "rank-map", Path("new/.."))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"link' is a link to '.*elsewhere'; name that"):
        write_export(choice_of(1), "rank-map", tmp_path / "link")
    with pytest.raises(InputError, match=r"--out: .* can't be written"):
        write_export(choice_of(1), "rank-map", Path("mine.txt/new"))
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine.txt"]


PARTS = st.sampled_from(
    ["..", ".", "new", "full", "link", "file", "broken", "-", "ü\n", "a b", ".hidden", ".new.partial", ".new.old"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, min_size=1, max_size=4))
def test_export_writes_in_its_folder_alone_whatever_path_is_named(choice_of, parts) -> None:
    """Folders that are full, files, links that lead out or nowhere, and ways up, in any order."""
    with tempfile.TemporaryDirectory() as root:
        here = Path(root).resolve() / "above" / "here"
        for folder in (here / "full", here.parent / "elsewhere", here / ".new.partial", here / ".new.old"):
            folder.mkdir(parents=True)
            (folder / "mine.txt").write_text("mine")
        (here / "file").write_text("mine")
        (here / "link").symlink_to(here.parent / "elsewhere")
        (here / "broken").symlink_to(here.parent / "nowhere")
        before = _files(Path(root))
        out = here.joinpath(*parts)
        leads_to = out.resolve()
        with contextlib.suppress(InputError):
            write_export(choice_of(1), "rank-map", out)
        after = _files(Path(root))
        assert after.items() >= before.items()
        assert after.keys() - before.keys() in (set(), {leads_to / "rank_map.json"})


def _files(root: Path) -> dict[Path, str]:
    """Every file, and where every link leads."""
    links = {path: str(path.readlink()) for path in root.rglob("*") if path.is_symlink()}
    return links | {path: path.read_text() for path in root.rglob("*") if path.is_file() and path not in links}


def test_unknown_format(choice_of, tmp_path) -> None:
    with pytest.raises(InputError, match=r"--to: 'pfet' is no format; did you mean 'peft'\?"):
        write_export(choice_of(1), "pfet", tmp_path / "out")


@pytest.mark.parametrize("form", ["llama-factory", "torchtune", "litgpt"])
def test_trainers_of_one_rank_are_refused_with_what_works_instead(choice_of, tmp_path, form) -> None:
    with pytest.raises(InputError, match=f"--to: '{form}' knows one rank .* --to trl"):
        write_export(choice_of(1), form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_map_of_two_base_models_becomes_two_configs(bases, bench, tmp_path) -> None:
    shapes = {
        "retriever.layer.0.w": Shape(8, 8),
        "generator.layer.0.w": Shape(8, 8),
        "generator.layer.1.c": Shape(8, 8),
    }
    space = Space(shapes, {name: (name,) for name in shapes}, (0, 2), transposed=("generator.layer.1.c",))
    models = [str(bases("retrieval")), str(bases("gpt2"))]
    task = {"kind": "rag", "data": "x", "retriever": {"source": models[0]}}
    config = study_config(task=task, model={"source": models[1]})
    kept = dataclasses.replace(record(space), config=config.frozen())
    ranks = {"retriever.layer.0.w": 2, "generator.layer.0.w": 0, "generator.layer.1.c": 2}
    trial = ScoredTrial(5, "search", 0.5, 0.1, 64, ranks, {"alpha": 8.0}, 1.0)
    told = write_export(Choice("small", kept, bench.folder, trial), "trl", tmp_path / "trl")
    assert [path.name for path in (tmp_path / "trl").iterdir()] == ["generator"]
    assert told[0].startswith("the generator alone")
    write_export(Choice("small", kept, bench.folder, trial), "lora-config", tmp_path / "out")
    retriever, generator = (LoraConfig.from_pretrained(str(tmp_path / "out" / n)) for n in ("retriever", "generator"))
    assert retriever.rank_pattern == {"^layer\\.0\\.w": 2}
    assert generator.rank_pattern == {"^layer\\.1\\.c": 2}
    assert [retriever.base_model_name_or_path, generator.base_model_name_or_path] == models
    header = (tmp_path / "trl" / "generator" / "train.py").read_text()
    assert "# 32 trainable parameters, of 64 in all its base models; searched beside them: alpha 8.\n" in header
    assert (retriever.fan_in_fan_out, generator.fan_in_fan_out) == (False, True)
    assert retriever.lora_alpha == 8  # what was searched, not the study file's 4


def test_map_of_zeros_with_a_head_is_an_adapter_of_the_head_alone(bench, tmp_path) -> None:
    kept = dataclasses.replace(record(), head=("classifier",), classes=("no", "yes"))
    trial = ScoredTrial(0, "baseline:uniform", 0.5, 0.1, 0, dict.fromkeys(SPACE.shapes, 0), {}, 1.0)
    write_export(Choice("small", kept, bench.folder, trial), "lora-config", tmp_path / "out")
    assert LoraConfig.from_pretrained(str(tmp_path / "out")).modules_to_save == ["classifier"]
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"id2label": {"0": "no", "1": "yes"}}
