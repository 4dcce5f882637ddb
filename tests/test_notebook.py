"""The notebook of docs/ runs, on a study that was searched by the command line, and shows what it talks of."""

import nbformat
from nbclient import NotebookClient

from tests.conftest import ROOT


def test_notebook_runs_and_objects_show_themselves(demo, tmp_path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    (tmp_path / "studies").symlink_to(demo.folder / "studies")
    place = tmp_path / "docs"  # where a reader opens it
    place.mkdir()
    NotebookClient(notebook, resources={"metadata": {"path": str(place)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [{kind for output in cell.outputs for kind in output.get("data", ())} for cell in cells]
    assert all("text/html" in kinds[at] for at in (0, 1, 3, 5))  # the study, its trials, the map, ranks by layer
    assert all("image/png" in kinds[at] for at in (2, 6))  # figures
    assert all(kinds), "a cell shows nothing"
    assert "[I " not in str([output.get("text") for cell in cells for output in cell.outputs])  # Optuna's log


def test_what_the_notebook_shows_in_print_was_written_by_it() -> None:
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
