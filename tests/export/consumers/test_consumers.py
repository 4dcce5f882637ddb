import subprocess
import sys

import pytest

from rank_search.core.errors import InputError
from rank_search.export import consumers
from rank_search.export.certificate import certified_labels, verify
from rank_search.export.formats import formats, write_export
from rank_search.export.manifest import Manifest
from rank_search.export.protocol import ADAPTER_FORMATS, BUNDLE_FORMATS
from tests.conftest import ROOT

MADE_UP = '''
"""A server that halves every update, which also trains and refuses."""

from rank_search.export.protocol import ALL_MODELS, Consumer, Reader, Refusal, Trainer


def halved(bundle):
    adapter = bundle.adapter
    return adapter.scaled(lambda name, a: adapter.scale(len(a), adapter.alpha_by_pattern(name)) / FACTOR)


def write(plan, out):
    (out / "made-up.txt").write_text(str(plan.lora_settings["r"]))
    return ["made-up train"]


FACTOR = 2
CONSUMER = Consumer(
    name="Made-Up",
    readers=(
        Reader("made-up", "Made-Up", "no-such-package", frozenset({"compact"}), ALL_MODELS,
               certified=frozenset({"compact"}), rules=halved, rules_version="1.2"),
    ),
    trainer=Trainer("made-up-train", "Made-Up", write),
    refusal=Refusal("made-up-old", "is gone; use --to made-up-train"),
    serving_note=lambda bundle: f"Made-Up: serve --rank {bundle.top_rank}",
)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """One more file among the consumers, and nothing else."""
    folder = tmp_path / "more_consumers"
    folder.mkdir()
    (folder / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(consumers, "__path__", [*consumers.__path__, str(folder)])
    yield folder / "made_up.py"
    sys.modules.pop("rank_search.export.consumers.made_up", None)
    vars(consumers).pop("made_up", None)


def test_adding_a_consumer_is_adding_one_file(made_up, exported_trial, tmp_path) -> None:
    assert "made-up" in certified_labels("compact", "AutoModelForCausalLM")
    assert "made-up-train" in formats()
    with pytest.raises(InputError, match="'made-up-old' is gone"):
        write_export(exported_trial("generation"), "made-up-old", tmp_path / "old")
    lines = write_export(exported_trial("generation"), "made-up-train", tmp_path / "train")
    assert lines == ["made-up train"]
    assert (tmp_path / "train" / "made-up.txt").read_text() == "8"
    write_export(exported_trial("generation"), "compact", tmp_path / "out", force=True)
    (finding,) = (found for found in Manifest.read(tmp_path / "out").certificate if found.label == "made-up")
    assert (finding.consumer, finding.version, finding.real, finding.passed) == ("Made-Up", "1.2", False, False)
    assert verify(tmp_path / "out", ["made-up"])[0].difference == pytest.approx(finding.difference)
    with pytest.raises(InputError, match="'made-upp' reads no compact; did you mean 'made-up'"):
        verify(tmp_path / "out", ["made-upp"])


def test_a_consumer_that_computes_the_same_is_certified_and_gets_its_serving_note(
    made_up, exported_trial, tmp_path
) -> None:
    made_up.write_text(MADE_UP.replace("FACTOR = 2", "FACTOR = 1"))
    lines = write_export(exported_trial("generation"), "compact", tmp_path / "out")
    assert any(line.startswith("Made-Up 1.2 (modelled): computes the same") for line in lines)
    assert "- Made-Up: serve --rank 8" in (tmp_path / "out" / "README.md").read_text()


def test_without_the_file_nothing_knows_it(exported_trial, tmp_path) -> None:
    assert "made-up" not in {reader.label for reader in consumers.readers()}
    assert "made-up-train" not in formats()


def test_labels_are_unique_and_every_bundle_format_is_certified() -> None:
    labels = [reader.label for reader in consumers.readers()]
    assert len(labels) == len(set(labels))
    assert all(certified_labels(form, "AutoModelForCausalLM") for form in BUNDLE_FORMATS)
    assert all(reader.certified <= reader.formats <= set(BUNDLE_FORMATS) for reader in consumers.readers())
    assert set(BUNDLE_FORMATS) > ADAPTER_FORMATS


def test_formats_and_certified_readers_are_those_that_users_know() -> None:
    trained = ["peft", "compact", "padded", "gguf", "merged"]
    trainers = ["lora-config", "axolotl", "trl", "unsloth", "ms-swift"]
    assert list(formats()) == [*trained, *trainers, "rank-curve", "rank-map"]
    assert {form: certified_labels(form, "AutoModelForCausalLM") for form in BUNDLE_FORMATS} == {
        "peft": ("peft", "vllm"),
        "compact": ("peft", "axolotl", "vllm-0.31", "vllm"),
        "padded": ("peft", "axolotl", "vllm-0.31", "vllm", "sglang", "lorax", "tgi"),
        "gguf": ("llama.cpp",),
        "merged": ("transformers",),
    }
    assert certified_labels("peft", "AutoModel") == ("peft", "sentence-transformers", "vllm")
    assert certified_labels("merged", "AutoModel") == ("transformers", "sentence-transformers")
    assert consumers.refusals().keys() == {"llama-factory", "torchtune", "litgpt"}


def test_formats_are_listed_without_importing_torch() -> None:
    code = (
        "import sys; from rank_search.export.formats import formats; from rank_search.export.consumers import readers;"
        "formats(), readers(); print({'torch', 'peft', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
