"""``init``: drafts a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    model: Annotated[
        str, typer.Option(help="Hub id, folder or package:NAME/SUBDIR; for a decoder, it may end in /FILE.gguf.")
    ],
    data: Annotated[str, typer.Option(help="File, folder, BEIR folder or hub id.")],
    kind: Annotated[str | None, typer.Option(help="classification, retrieval, generation or rag.")] = None,
    retriever: Annotated[str | None, typer.Option(help="Sentence embedder, for rag; --model is the generator.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; by default named after the data.")] = None,
) -> None:
    """Drafts a study file from a model and a data set."""
    from rank_search.app.configs import write_study_file
    from rank_search.app.init import check_kind, draft

    check_kind(kind, retriever)
    drafted = draft(model, data, kind, retriever)
    path = out or Path(f"{drafted.name}.yaml")
    write_study_file(drafted.text, path)
    print(f"{path}: look it over, then run: python -m rank_search plan {path}")
