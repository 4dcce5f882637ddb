"""Train, validation and test splits: without overlap, and drawn by a seed where the data has no such part."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from rank_search.core.errors import InputError
from rank_search.data.overlap import check_overlaps, overlaps
from rank_search.data.rows import part_location, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rank_search.config import DataConfig, TaskConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.rows import Row

Example = TypeVar("Example")
PARTS = ("train", "validation", "test")
LEAST_SELECTION = 300  # examples, below which none are set apart for the choice: too few would decide nothing


@dataclass(frozen=True)
class Part(Generic[Example]):
    """The examples of one part as they were read.

    Attributes:
        examples: in the order of the data.
        notes: what was left out of them, in sentences.
    """

    examples: list[Example]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits(Generic[Example]):
    """Three parts of a data set: training, choosing (validation) and reporting (test).

    Attributes:
        train: examples to train on.
        validation: examples to choose by.
        test: examples to report on.
        notes: sentences for the user: what was left out of the data, and what several parts hold.
        selection: how many of the last validation examples are for the choice of a map alone.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    selection: int = 0

    @property
    def fingerprint(self) -> str:
        """A digest that changes when any example, part or order changes."""
        return fingerprint({part: [asdict(example) for example in getattr(self, part)] for part in PARTS})


class HasSelection(Protocol):
    """Data whose last validation examples may be for the choice of a map alone."""

    @property
    def selection(self) -> int:
        """How many of them are."""


def selection_of(data: HasSelection, split: Split) -> int:
    """How many of the last examples of a split are for the choice of a map alone."""
    return data.selection if split == "validation" else 0


def fingerprint(content: Any) -> str:
    """SHA-256 of content that JSON can represent."""
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def named_parts(data: DataConfig) -> list[str]:
    """The parts that the study file names: train, and the parts that are not split off from train.

    Raises:
        InputError: two parts have the same name.
    """
    named = [part for part in PARTS if getattr(data, part) is not None]
    for i, part in enumerate(named):
        for other in named[:i]:
            if getattr(data, part) == getattr(data, other):
                raise InputError(
                    f"{getattr(data, part)!r} is used as {other} already, and parts must not overlap; leave it out to "
                    "split a part off from train",
                    field=f"task.data.{part}",
                )
    return named


def read_parts(data: DataConfig, examples: Callable[[list[Row]], Part[Example]]) -> dict[str, Part[Example]]:
    """Reads the examples of the parts that the study file names.

    Args:
        data: location of the data set.
        examples: turns rows into examples.

    Raises:
        InputError: a part can't be read, or two parts have the same name.
    """
    return {part: _examples(data, part, examples) for part in named_parts(data)}


def _examples(data: DataConfig, part: str, examples: Callable[[list[Row]], Part[Example]]) -> Part[Example]:
    rows = read_rows(data, part)
    try:
        found = examples(rows)
    except InputError as error:
        # An error about a row is fixed in the data file, an error about a field in the study file.
        raise error.in_file(part_location(data, part)) if error.field is None else error from None
    if not found.examples:
        raise InputError(
            f"{part_location(data, part)} has nothing to use: {'; '.join(found.notes)}; name another part",
            field=f"task.data.{part}",
        )
    return found


def split(
    parts: Mapping[str, Part[Example]],
    settings: TaskConfig,
    *,
    text: Callable[[Example], str],
    group: Callable[[Example], str],
    keep_in_train: Callable[[Example], str] | None = None,
) -> Splits[Example]:
    """Splits off the parts that are not given, and limits validation and test to their sizes.

    Examples of one group go to the same part, so that no test example has a near-copy in training.
    A hash of the group and the seed decides the draws, so they do not depend on the order of the rows.
    The last validation examples are for the choice of a map, where there are enough of them.

    Args:
        parts: the given parts; at least ``train``.
        settings: sizes, shares and seed.
        text: gives an example's text without its label or answers; parts are compared by it.
        group: gives an example's group.
        keep_in_train: gives a property that training must cover, such as the class. Examples whose property
            would be missing from training are moved back to training.

    Raises:
        InputError: a part is empty, or most texts of a given part are in another given part too.
    """
    given = {part: found.examples for part, found in parts.items()}
    check_overlaps({part: [text(example) for example in examples] for part, examples in given.items()})
    share = max(1, round(settings.data.held_out * len(given["train"])))
    selection = selection_count(settings, len(given["validation"]) if "validation" in given else 2 * share)
    drawn_share = {"validation": min(settings.validation_size, share) + selection, "test": share}
    sizes = {
        "validation": settings.validation_size + (settings.selection_wanted if selection else 0),
        "test": settings.test_size,
    }
    drawn = _draw(given, settings.data.seed, sizes, drawn_share, group, keep_in_train)
    for part in PARTS:
        if not drawn[part]:
            raise InputError(
                f"{part} is empty: the data has {len(given['train'])} training rows in "
                f"{len(set(map(group, given['train'])))} groups to split; add data, or name a {part} part",
                field="task.data",
            )
    return Splits(
        train=tuple(drawn["train"]),
        validation=tuple(drawn["validation"]),
        test=tuple(drawn["test"]),
        notes=(
            *(f"{part}: {note}" for part, found in parts.items() for note in found.notes),
            *_unused(given, drawn, settings),
            *map(str, overlaps({part: [text(example) for example in examples] for part, examples in drawn.items()})),
        ),
        selection=selection_count(settings, len(drawn["validation"])) if selection else 0,
    )


def selection_count(settings: TaskConfig, available: int) -> int:
    """How many of so many validation examples are for the choice of a map; 0 where they would be too few."""
    wanted = settings.validation_size + settings.selection_wanted
    count = round(min(available, wanted) * settings.selection_wanted / wanted)
    return count if count >= LEAST_SELECTION else 0


def _draw(
    given: Mapping[str, list[Example]],
    seed: int,
    sizes: Mapping[str, int],
    shares: Mapping[str, int],
    group: Callable[[Example], str],
    keep_in_train: Callable[[Example], str] | None,
) -> dict[str, list[Example]]:
    """The examples of every part.

    Args:
        given: the parts that the data has.
        seed: decides the draws.
        sizes: how many examples a part that is held out may have at most.
        shares: how many may be split off from train for it at most.
        group: gives an example's group.
        keep_in_train: as for `split`.
    """
    groups = _shuffled_groups(given["train"], group, seed)
    held_out: dict[str, list[Example]] = {}
    for part, size in sizes.items():
        if part in given:
            shuffled = [example for members in _shuffled_groups(given[part], group, seed) for example in members]
            held_out[part] = shuffled[:size]
        else:
            held_out[part], groups = _take_groups(groups, min(size, shares[part]))
    train = [example for members in groups for example in members]
    if keep_in_train is not None:
        train += _move_back(train, held_out, given, keep_in_train)
    return {"train": train, **held_out}


def _unused(given: Mapping[str, list[Example]], drawn: Mapping[str, list[Example]], settings: TaskConfig) -> list[str]:
    """Sentences about given examples that no part uses."""
    limits = {
        "validation": f"task.validation_size is {settings.validation_size}, and task.selection_size "
        f"{settings.selection_wanted}",
        "test": f"task.test_size is {settings.test_size}",
    }
    notes = []
    for part, examples in given.items():
        sources = [part, *(other for other in PARTS if other not in given)] if part == "train" else [part]
        unused = len(examples) - sum(len(drawn[other]) for other in sources)
        reason = limits.get(part, "their group is too large to be held out")
        if unused:
            notes.append(f"{unused:,} of {len(examples):,} examples of {part} are not used: {reason}")
    return notes


def _shuffled_groups(examples: Sequence[Example], group: Callable[[Example], str], seed: int) -> list[list[Example]]:
    """The examples by group; groups and their members are in an order that the seed decides."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: _digest(seed, repr(example))):
        groups[group(example)].append(example)
    return [groups[name] for name in sorted(groups, key=lambda name: _digest(seed, name))]


def _digest(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _take_groups(groups: list[list[Example]], count: int) -> tuple[list[Example], list[list[Example]]]:
    """Takes at most ``count`` examples in whole groups.

    If every group is larger than ``count``, a part of the smallest group is taken and the rest of it is dropped.

    Returns:
        The taken examples, and the groups that remain.
    """
    taken: list[Example] = []
    remaining = []
    for members in groups:
        if len(taken) + len(members) <= count:
            taken += members
        else:
            remaining.append(members)
    if not taken and remaining:
        smallest = min(remaining, key=len)
        remaining.remove(smallest)
        return smallest[:count], remaining
    return taken, remaining


def _move_back(
    train: list[Example],
    held_out: dict[str, list[Example]],
    given: Mapping[str, list[Example]],
    keep_in_train: Callable[[Example], str],
) -> list[Example]:
    """Removes from the split-off parts, and returns, the examples whose property training lacks."""
    covered = {keep_in_train(example) for example in train}
    moved: list[Example] = []
    for part, examples in held_out.items():
        if part not in given:
            moved += [example for example in examples if keep_in_train(example) not in covered]
            held_out[part] = [example for example in examples if keep_in_train(example) in covered]
    return moved
