import dataclasses

import pytest

from rank_search.core.errors import InputError, RankSearchError
from rank_search.export.formats import write_export
from tests.export.helpers import edit


def test_trial_without_an_adapter_says_which_have_one(exported_trial, tmp_path) -> None:
    exported = exported_trial()
    other = dataclasses.replace(exported, trial=dataclasses.replace(exported.trial, number=3))
    with pytest.raises(RankSearchError, match=r"trial 3 has no saved adapter: .*\(trials 7\)"):
        write_export(other, "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_edited_adapter_of_a_study_is_refused(exported_trial, tmp_path) -> None:
    exported = exported_trial()
    exported.folder.write_result(7, {"adapter": exported.folder.adapter_digests(7)})
    write_export(exported, "peft", tmp_path / "before")
    edit(exported.folder.adapter(7) / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"0007/adapter_model.safetensors: is not what was trained"):
        write_export(exported, "peft", tmp_path / "after")
