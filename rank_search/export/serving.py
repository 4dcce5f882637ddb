"""How big a bundle is, and which flags or files a server needs to take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.consumers import consumers
from rank_search.export.protocol import ServedBundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rank_search.export.manifest import AutoClass, Finding


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights in a bundle."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in {".safetensors", ".gguf"})


def serving_notes(folder: Path, findings: Sequence[Finding], auto_class: AutoClass) -> list[str]:
    """What to know before serving a bundle, in sentences, about the consumers that passed.

    Args:
        folder: the bundle.
        findings: its certificate.
        auto_class: the kind of its base model.
    """
    passed = {finding.label for finding in findings if finding.passed}
    notes = [f"{weight_bytes(folder):,} bytes of weights"]
    for consumer in consumers():
        names = tuple(reader.name for reader in consumer.readers if reader.label in passed)
        if names and consumer.serving_note:
            notes.append(consumer.serving_note(ServedBundle(folder, auto_class, names)))
    return list(dict.fromkeys(notes))  # LoRAX and TGI share one note
