"""What is said where an extra is missing."""

from pathlib import Path

import pytest

from rank_search.core.errors import InputError
from rank_search.core.extras import MODULES, is_installed, require_extra


@pytest.mark.parametrize("extra", sorted(MODULES))
def test_missing_one_is_refused_in_one_line_that_names_it(extra, monkeypatch) -> None:
    monkeypatch.setattr("rank_search.core.extras.find_spec", lambda name: None)
    assert not is_installed(extra)
    with pytest.raises(InputError) as refused:
        require_extra(extra, "a thing", field="some.field")
    assert str(refused.value) == (
        f"some.field: a thing needs {MODULES[extra][0]}, which is not installed; pip install 'rank_search[{extra}]'"
    )


@pytest.mark.parametrize("extra", sorted(MODULES.keys() - {"4bit"}))
def test_installed_ones_are_found(extra) -> None:
    require_extra(extra, "a thing")
    assert is_installed(extra)


def test_each_module_is_looked_for(monkeypatch) -> None:
    from rank_search.core import extras

    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "plotly" else found(name))
    with pytest.raises(InputError, match="needs plotly, which is not installed"):
        require_extra("report", "a report")
    require_extra("retrieval", "retrieval")


def test_a_mere_folder_is_no_module(tmp_path, monkeypatch) -> None:
    """W&B writes its runs into a folder ``wandb``, where a study is run from."""
    Path(tmp_path / "no_such_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODULES, "wandb", ("no_such_library",))
    assert not is_installed("wandb")
