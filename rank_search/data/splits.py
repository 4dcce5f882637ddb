"""Train, validation and test: kept apart always, split off by seed where they are not given."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rank_search.core.errors import InputError
from rank_search.data.rows import place, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.config import DataConfig, TaskConfig
    from rank_search.data.rows import Row

Example = TypeVar("Example")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits(Generic[Example]):
    """Three parts of a data set: to train on, to choose on, to report on."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def fingerprint(self) -> str:
        """Changes when any example, any part or any order changes."""
        return fingerprint({part: [asdict(example) for example in getattr(self, part)] for part in PARTS})


def fingerprint(content: Any) -> str:
    """SHA-256 of anything that JSON can write."""
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def named_parts(data: DataConfig) -> list[str]:
    """The parts that the study file names: train, and those that are not to be split off.

    Raises:
        InputError: two of them are the same.
    """
    named = [part for part in PARTS if getattr(data, part) is not None]
    for i, part in enumerate(named):
        for other in named[:i]:
            if getattr(data, part) == getattr(data, other):
                raise InputError(
                    f"{getattr(data, part)!r} is {other} already, and they must be kept apart; leave it out to have a "
                    "part of train split off",
                    field=f"task.data.{part}",
                )
    return named


def read_parts(data: DataConfig, examples: Callable[[list[Row]], list[Example]]) -> dict[str, list[Example]]:
    """The examples of the parts that the study file names.

    Args:
        data: where the data set lies.
        examples: makes them of rows.

    Raises:
        InputError: a part can't be read, or two of them are the same.
    """
    return {part: _examples(data, part, examples) for part in named_parts(data)}


def _examples(data: DataConfig, part: str, examples: Callable[[list[Row]], list[Example]]) -> list[Example]:
    rows = read_rows(data, part)
    try:
        return examples(rows)
    except InputError as error:
        # What is wrong with a row is mended in the data, what is wrong with a field in the study file.
        raise error.in_file(place(data, part)) if error.field is None else error from None


def split(
    parts: dict[str, list[Example]],
    settings: TaskConfig,
    group: Callable[[Example], str],
    needed: Callable[[Example], str] | None = None,
) -> Splits[Example]:
    """Splits off the parts that are not given, and cuts the held-out ones to their sizes.

    Examples of one group stay together, so that what is tested was not trained on under another guise.
    Both draws go by a hash of the group, not by the order of the rows.

    Args:
        parts: the given parts; ``train`` at least.
        settings: sizes, shares and seed.
        group: names an example's group.
        needed: names what training must not lack, such as a class: examples whose last one would be
            split off stay in train.

    Raises:
        InputError: too little is left for some part, or most of a given one is in ``train`` too.
    """
    data = settings.data
    _check_apart(parts)
    order = _drawn(parts["train"], group, data.seed)
    sizes = {"validation": settings.validation_size, "test": settings.test_size}
    held_out: dict[str, list[Example]] = {}
    for part, size in sizes.items():
        if part in parts:
            drawn = [example for members in _drawn(parts[part], group, data.seed) for example in members]
            held_out[part] = drawn[:size]
        else:
            share = max(1, round(data.held_out * len(parts["train"])))
            held_out[part], order = _take(order, min(size, share))
    train = [example for members in order for example in members]
    if needed is not None:
        train += _lacking(train, held_out, parts, needed)
    splits = Splits(tuple(train), tuple(held_out["validation"]), tuple(held_out["test"]))
    for part in PARTS:
        if not getattr(splits, part):
            raise InputError(
                f"{part} is empty: the data has {len(parts['train'])} training rows in "
                f"{len(_drawn(parts['train'], group, data.seed))} groups to split; give more, or name a {part} part",
                field="task.data",
            )
    return splits


def _check_apart(parts: dict[str, list[Example]]) -> None:
    seen = {repr(example) for example in parts["train"]}
    for part in PARTS[1:]:
        examples = parts.get(part, [])
        known = sum(repr(example) in seen for example in examples)
        if 2 * known > len(examples):
            raise InputError(
                f"{known} of its {len(examples)} examples are in train too, and they must be kept apart; name other "
                "data",
                field=f"task.data.{part}",
            )


def _drawn(examples: Sequence[Example], group: Callable[[Example], str], seed: int) -> list[list[Example]]:
    """The examples by group, groups and members in an order that the seed draws."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: _digest(seed, repr(example))):
        groups[group(example)].append(example)
    return [groups[name] for name in sorted(groups, key=lambda name: _digest(seed, name))]


def _digest(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _take(groups: list[list[Example]], count: int) -> tuple[list[Example], list[list[Example]]]:
    """At most ``count`` examples in whole groups, and the groups that stay.

    Where every group is larger, a part of the smallest is taken, and the rest of it left out altogether.
    """
    taken: list[Example] = []
    stay = []
    for members in groups:
        if len(taken) + len(members) <= count:
            taken += members
        else:
            stay.append(members)
    if not taken and stay:
        smallest = min(stay, key=len)
        stay.remove(smallest)
        return smallest[:count], stay
    return taken, stay


def _lacking(
    train: list[Example],
    held_out: dict[str, list[Example]],
    parts: dict[str, list[Example]],
    needed: Callable[[Example], str],
) -> list[Example]:
    """Takes back what was split off and training can't do without."""
    known = {needed(example) for example in train}
    back: list[Example] = []
    for part, examples in held_out.items():
        if part not in parts:
            back += [example for example in examples if needed(example) not in known]
            held_out[part] = [example for example in examples if needed(example) in known]
    return back
