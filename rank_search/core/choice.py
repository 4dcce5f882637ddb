"""How a study's map is chosen, as people write it: a rule, and the margin that it may lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rank_search.core.errors import InputError, did_you_mean

DEFAULT_RULE = "as-good-as-best"
PLAIN_RULES = (DEFAULT_RULE, "within-one-se", "best", "knee")  # those without a bound
_BOUNDED = ("max-parameters", "min-score")


@dataclass(frozen=True)
class Rule:
    """A choice rule; ``bound`` is the N or X of ``max-parameters=N`` and ``min-score=X``."""

    name: str
    bound: float | None = None

    @classmethod
    def parse(cls, text: str, field: str = "--rule") -> Rule:
        """Reads ``as-good-as-best``, ``within-one-se``, ``best``, ``knee``, ``max-parameters=N`` or ``min-score=X``.

        Args:
            text: the rule.
            field: where it is written, for the error.

        Raises:
            InputError: it is none of these.
        """
        name, equals, bound = text.partition("=")
        if name in PLAIN_RULES and not equals:
            return cls(name)
        if name not in _BOUNDED:
            known = [*PLAIN_RULES, "max-parameters=N", "min-score=X"]
            raise InputError(f"{text!r} is no rule; {did_you_mean(text, known)}", field=field)
        try:
            number = float(bound.replace(",", "") if name == "max-parameters" else bound)
        except ValueError:
            example = "50000" if name == "max-parameters" else "0.75"
            raise InputError(f"{text!r} needs a number, such as {name}={example}", field=field) from None
        if not math.isfinite(number) or (name == "max-parameters" and number < 0):
            raise InputError(f"{text!r} needs a finite number, and no parameters below 0", field=field)
        return cls(name, number)

    def __str__(self) -> str:
        return self.name if self.bound is None else f"{self.name}={self.bound:g}"


@dataclass(frozen=True)
class Margin:
    """The loss of score that a smaller map may have and still count as good.

    Attributes:
        value: in units of the metric; or, of a share, the part of what fine-tuning gains.
        is_share: whether it is a share.
    """

    value: float
    is_share: bool

    @classmethod
    def parse(cls, text: str | float) -> Margin:
        """Reads a number such as ``0.01``, or a share such as ``10%``.

        Raises:
            ValueError: it is neither, or not above 0.
        """
        content = str(text).strip()
        is_share = content.endswith("%")
        try:
            value = float(content.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0) or (is_share and value >= 100):
            raise ValueError(
                "is no margin; write a share of what fine-tuning gains, such as 10%, or a loss of the metric that you "
                "would accept, such as 0.01"
            )
        return cls(value / 100 if is_share else value, is_share)

    def of_gain(self, gain: float) -> float:
        """The margin in units of the metric.

        Args:
            gain: what fine-tuning gains; where it is none, a share of it is 0.
        """
        return max(0.0, gain) * self.value if self.is_share else self.value

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.is_share else f"{self.value:g}"
