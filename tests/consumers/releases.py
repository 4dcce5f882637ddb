"""Which releases `make consumers` brings, as each consumer's module says; run, it prints the folder of each."""

from __future__ import annotations

from rank_search.export.consumers import readers, trainers
from tests.conftest import ROOT

BROUGHT = ROOT / ".consumers"


def folder_name(release: str) -> str:
    """The folder of a release such as ``vllm==0.31.0``, within `BROUGHT`."""
    return release.replace("==", "-")


def releases() -> list[str]:
    """All, without repetition."""
    found = [reader.release for reader in readers() if reader.release]
    found += [release for trainer in trainers().values() for release in trainer.releases]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print(*(f".consumers/{folder_name(release)}" for release in releases()))
