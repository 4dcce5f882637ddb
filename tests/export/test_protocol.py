"""What each consumer says about one program."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from rank_search.core.errors import InputError
from rank_search.export import protocol
from rank_search.export.protocol import (
    ADAPTER_FORMATS,
    ALL_MODELS,
    BUNDLE_FORMATS,
    CAUSAL_LMS,
    Bundle,
    Consumer,
    Reader,
    Refusal,
    ServedBundle,
    Trainer,
)
from rank_search.export.updates import AppliedUpdates, NotServed, Refused

READER = Reader("made-up", "Made-Up", "made-up", ADAPTER_FORMATS, CAUSAL_LMS, own_code=lambda bundle: torch.zeros(1))
TRAINER = Trainer("made-up-train", "Made-Up", lambda plan, out: [])
REFUSAL = Refusal("made-up", "is gone")


@pytest.fixture
def installed(monkeypatch):
    """Installs a version of the made-up package; none at first."""
    versions: dict[str, str] = {}

    def version(package: str) -> str:
        if package not in versions:
            raise protocol.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(protocol, "version", version)
    return lambda found: versions.update({"made-up": found})


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    """A folder of a base model with two linear layers, without files yet."""
    model = nn.ModuleDict({"first": nn.Linear(3, 2), "norm": nn.LayerNorm(2), "second": nn.Linear(2, 2)})
    return Bundle(tmp_path, SimpleNamespace(model=model), reference=None)


def write_adapter(folder, **settings) -> None:
    content = {"r": 2, "lora_alpha": 4, "target_modules": ["first"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    prefix = "base_model.model.first.lora_"
    save_file(
        {f"{prefix}A.weight": torch.ones(2, 3), f"{prefix}B.weight": torch.ones(2, 2)},
        folder / "adapter_model.safetensors",
    )


# Names


def test_adapters_are_some_of_the_formats_and_causal_models_some_of_all() -> None:
    assert set(BUNDLE_FORMATS) - ADAPTER_FORMATS == {"gguf", "merged"}
    assert ALL_MODELS > CAUSAL_LMS == {"AutoModelForCausalLM"}


# Readers


@pytest.mark.parametrize(
    ("versions", "found", "expected"),
    [
        ("", "1.0", True),
        ("<2", "1.9.9", True),
        ("<2", "2.0", False),
        (">=2", "2.0", True),
        (">=2", "2.1rc1", True),  # a release candidate is what its user runs
        (">=2,<3", "3.0", False),
        ("", "1.0+cu124", True),
    ],
)
def test_an_installed_version_counts_if_the_reader_stands_for_it(installed, versions, found, expected) -> None:
    installed(found)
    assert replace(READER, versions=versions).installed_version == (found if expected else None)


@given(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_two_ranges_that_meet_split_all_versions_between_them(version, border) -> None:
    found, edge = (".".join(map(str, parts)) for parts in (version, border))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(protocol, "version", lambda _package: found)
        readers = [replace(READER, versions=f"{sign}{edge}") for sign in ("<", ">=")]
        assert sum(reader.installed_version is not None for reader in readers) == 1


def test_a_package_that_is_not_installed_has_no_version(installed) -> None:
    assert READER.installed_version is None


def test_a_reader_without_own_code_runs_no_version(installed) -> None:
    installed("1.0")
    assert replace(READER, own_code=None).installed_version is None


def test_a_reader_runs_on_every_base_unless_it_says_otherwise() -> None:
    assert READER.can_run(SimpleNamespace()) is True
    assert (READER.certified, READER.unsupported, READER.rules, READER.release) == (frozenset(), frozenset(), None, "")


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("LlamaForCausalLM", None),
        ("GPT2LMHeadModel", "takes no adapters for GPT2LMHeadModel"),
        ("NewForCausalLM", "not known: its source was not read for NewForCausalLM"),
    ],
)
def test_of_classes_that_nobody_has_read_nothing_is_said(architecture, reason) -> None:
    reader = replace(READER, unsupported=frozenset({"GPT2LMHeadModel"}), supported=frozenset({"LlamaForCausalLM"}))
    assert reader.why_not("AutoModelForCausalLM", architecture) == reason
    assert reader.why_not("AutoModel", "LlamaForCausalLM") == "takes no adapters for LlamaForCausalLM"
    assert READER.why_not("AutoModelForCausalLM", architecture) is None


# Bundles


def test_a_bundle_reads_its_adapter_with_the_modules_of_the_base(bundle) -> None:
    write_adapter(bundle.folder)
    assert bundle.adapter.modules == ("first", "second")  # those that LoRA can adapt
    assert bundle.adapter.settings.r == 2
    assert bundle.adapter.factors.keys() == {"first"}
    assert bundle.adapter is bundle.adapter  # read once, whatever a consumer asks for


def test_a_bundle_without_its_files_says_which_one_is_missing(bundle) -> None:
    with pytest.raises(InputError, match=r"adapter_config\.json.*is missing .*; export again"):
        bundle.adapter  # noqa: B018
    write_adapter(bundle.folder)
    (bundle.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*is damaged or missing .*; export again"):
        bundle.adapter  # noqa: B018


@pytest.mark.parametrize(("pattern", "expected"), [({}, 2), ({"first": 16, "second": 1}, 16), ({"first": 1}, 2)])
def test_a_note_on_serving_knows_the_highest_rank_of_any_module(tmp_path, pattern, expected) -> None:
    write_adapter(tmp_path, rank_pattern=pattern)
    assert ServedBundle(tmp_path, "AutoModelForCausalLM", ("Made-Up",)).top_rank == expected


def test_updates_replace_no_parameters_by_default() -> None:
    """Two of them share nothing."""
    updates = AppliedUpdates({})
    updates.replaced["head.weight"] = torch.zeros(1)
    assert AppliedUpdates({}).replaced == {}


# Consumers


@pytest.mark.parametrize(
    "part", [{"readers": (READER,)}, {"trainer": TRAINER}, {"refusal": REFUSAL}], ids=["readers", "trainer", "refusal"]
)
def test_one_part_is_enough_for_a_consumer(part) -> None:
    consumer = Consumer("Made-Up", **part)
    assert (consumer.readers, consumer.trainer, consumer.refusal) == (
        part.get("readers", ()),
        part.get("trainer"),
        part.get("refusal"),
    )
    assert (consumer.serving_note, consumer.position) == (None, 100)


def test_a_consumer_says_something() -> None:
    with pytest.raises(ValueError, match=r"^consumer 'Empty' has no reader, no trainer and no refusal$"):
        Consumer("Empty", serving_note=lambda bundle: "served", position=1)


def test_trainers_are_for_causal_models_and_gguf_files_unless_they_say_otherwise() -> None:
    assert (TRAINER.causal_lms_only, TRAINER.reads_gguf, TRAINER.releases) == (True, True, ())


def test_a_refusal_of_one_bundle_is_not_one_of_a_whole_base_model() -> None:
    """The first fails a certificate, the second is left out of it."""
    assert not issubclass(Refused, NotServed)
    assert not issubclass(NotServed, Refused)
