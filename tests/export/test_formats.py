import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rank_search.core.errors import InputError, RankSearchError
from rank_search.export.formats import write_export

pytestmark = pytest.mark.slow


def test_rank_map(searched_trial, tmp_path) -> None:
    exported = searched_trial(2)
    write_export(exported, "rank-map", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "rank_map.json").read_text())
    assert written["ranks"] == {f"layer.{i}.w": 2 for i in range(4)}
    assert (written["study"], written["trial"], written["score"]) == ("small", 2, exported.trial.score)
    assert written["trainable_parameters"] == exported.trial.trainable_parameters


@pytest.mark.parametrize("form", ["peft", "lora-config"])
def test_map_of_zeros_has_no_adapter_to_export(searched_trial, tmp_path, form) -> None:
    with pytest.raises(RankSearchError, match="use the base model as it is"):
        write_export(searched_trial(0), form, tmp_path / "out")
    write_export(searched_trial(0), "rank-map", tmp_path / "out")


def test_full_folder_is_left_alone(searched_trial, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"--out: .* is not an empty folder"):
        write_export(searched_trial(1), "rank-map", tmp_path / "out")
    with pytest.raises(InputError, match="--out"):
        write_export(searched_trial(1), "rank-map", tmp_path / "out" / "mine.txt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_export_never_reaches_beside_the_folder_it_was_given(searched_trial, tmp_path, monkeypatch) -> None:
    """``new/..`` is the current folder, though there is no ``new``."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="is the current folder; name a new one"):
        write_export(searched_trial(1), "rank-map", Path("new/.."))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"link' is a link to '.*elsewhere'; name that"):
        write_export(searched_trial(1), "rank-map", tmp_path / "link")
    with pytest.raises(InputError, match=r"--out: .* can't be written"):
        write_export(searched_trial(1), "rank-map", Path("mine.txt/new"))
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine.txt"]


PARTS = st.sampled_from(
    ["..", ".", "new", "full", "link", "file", "broken", "-", "ü\n", "a b", ".hidden", ".new.partial", ".new.old"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, min_size=1, max_size=4))
def test_export_writes_in_its_folder_alone_whatever_path_is_named(searched_trial, parts) -> None:
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
            write_export(searched_trial(1), "rank-map", out)
        after = _files(Path(root))
        assert after.items() >= before.items()
        assert after.keys() - before.keys() in (set(), {leads_to / "rank_map.json"})


def _files(root: Path) -> dict[Path, str]:
    """Every file, and where every link leads."""
    links = {path: str(path.readlink()) for path in root.rglob("*") if path.is_symlink()}
    return links | {path: path.read_text() for path in root.rglob("*") if path.is_file() and path not in links}


def test_unknown_format(searched_trial, tmp_path) -> None:
    with pytest.raises(InputError, match=r"--to: 'pfet' is no format; did you mean 'peft'\?"):
        write_export(searched_trial(1), "pfet", tmp_path / "out")


@pytest.mark.parametrize("form", ["llama-factory", "torchtune", "litgpt"])
def test_trainers_of_one_rank_are_refused_with_what_works_instead(searched_trial, tmp_path, form) -> None:
    with pytest.raises(InputError, match=f"--to: '{form}' knows one rank .* --to trl"):
        write_export(searched_trial(1), form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
