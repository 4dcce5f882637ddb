import dataclasses

from huggingface_hub import ModelCard

from rank_search.export.formats import write_export
from rank_search.export.origin import header


def test_card_has_metadata_that_the_hub_takes(exported_trial, tmp_path) -> None:
    exported = exported_trial("generation")
    write_export(exported, "compact", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.base_model is None  # a folder is no id of the hub
    for word in ("study small, trial 7", "0.5000 ± 0.1000", f"{exported.trial.trainable_parameters:,}", "peft 0."):
        assert word in card.text
    assert "| vLLM ≤ 0.31 | 0.31.0 | modelled |" in card.text


def test_name_of_a_folder_can_not_end_a_comment(exported_trial) -> None:
    (part,) = exported_trial("generation").parts
    model = part.model.model_copy(update={"source": "here\nimport os\u2028there", "revision": "a\rb"})
    text = "\n".join(header(dataclasses.replace(part, model=model)))
    assert len(text.splitlines()) == 3
    assert "here?import os?there at a?b" in text
