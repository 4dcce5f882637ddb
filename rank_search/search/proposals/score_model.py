"""What is believed of a map's score before it is trained: a Gaussian process, by BoTorch."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # they use torch.jit.script
    from botorch.exceptions.errors import ModelFittingError
    from botorch.exceptions.warnings import BotorchWarning
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.kernels import RBFKernel, ScaleKernel
    from gpytorch.means import Mean
    from gpytorch.mlls import LeaveOneOutPseudoLikelihood
    from gpytorch.priors import LogNormalPrior, NormalPrior
    from linear_operator.utils.warnings import NumericalWarning
    from torch.nn.functional import one_hot

_FIT_STEPS = 50  # of L-BFGS on the hyperparameters, which would go on along flat directions for hundreds
_TRUST = 0.5  # prior mean of the slope from standardised expectations to standardised scores


def score_model(
    x: Tensor,
    scores: np.ndarray,
    variances: np.ndarray | None = None,
    *,
    ranks: int,
    rungs: int,
    expected: bool = False,
) -> SingleTaskGP:
    """A Gaussian process for the score: each layer's own part, and what they make together.

    In either part ranks share one length scale. With one for each layer, the model fits noise: from 40 random maps of
    RankBench it predicts the others with a root mean square error of 0.0036 instead of 0.0029.

    Hyperparameters are those by which each map is best predicted from all others (Rasmussen and Williams, Gaussian
    Processes for Machine Learning, section 5.4.2): by marginal likelihood the noise comes out too small where scores do
    not wholly follow the kernel, and lucky trainings are believed.

    Args:
        x: maps as points, ``[maps, features]``.
        scores: mean score of each.
        variances: of these means; without them the noise is fitted with the rest.
        ranks: how many of the features are ranks; they come first.
        rungs: of the ladder that these are on.
        expected: the last feature but one is what is expected of a map before any is trained, see
            `rank_search.search.proposals.energy_model`.
    """
    features = x.shape[-1]
    own = _OwnParts(ranks, rungs, lengthscale_prior=LogNormalPrior(0.0, 1.0))
    scaled = LogNormalPrior(2**0.5 + math.log(features) / 2, 3**0.5)  # by dimension: arXiv:2402.02229, and BoTorch
    together = RBFKernel(lengthscale_prior=scaled, active_dims=range(ranks)) * RBFKernel(
        lengthscale_prior=scaled, active_dims=range(ranks, features), ard_num_dims=features - ranks
    )
    model = SingleTaskGP(
        x,
        torch.as_tensor(scores)[:, None],
        train_Yvar=None if variances is None else torch.as_tensor(variances)[:, None],
        covar_module=ScaleKernel(own) + ScaleKernel(together),
        mean_module=_FromExpected() if expected else None,
        outcome_transform=Standardize(1),
    )
    try:
        likelihood = LeaveOneOutPseudoLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _FIT_STEPS}})
    except ModelFittingError:  # it goes on with the hyperparameters that it began with
        model.eval()
    return model


class _OwnParts(RBFKernel):  # type: ignore[misc]  # GPyTorch is untyped
    """What each feature adds by itself: the mean of squared exponential kernels of one feature each.

    They share their length scale, so that few maps are enough to fit it. GPyTorch's own kernel of this kind is
    deprecated in favour of kernels like this one. It works out each pair of rungs once, and counts which pairs two
    maps have by a matrix product: hundreds of dimensions would be hundreds of kernels otherwise.

    Args:
        ranks: how many of the features are ranks; they come first.
        rungs: of the ladder that these are on, from 0 to 1 in even steps.
    """

    def __init__(self, ranks: int, rungs: int, **options: Any) -> None:
        super().__init__(**options)
        self._ranks, self._rungs = ranks, rungs

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """``[…, n, m]``, or ``[…, n]`` of the diagonal alone, from ``[…, n, features]`` and ``[…, m, features]``."""
        if diag:
            parts: Tensor = super().forward(x1.mT[..., None], x2.mT[..., None], diag=True, **params)
            return parts.mean(dim=-2)
        others = [x[..., self._ranks :].mT[..., None] for x in (x1, x2)]
        summed: Tensor = super().forward(*others, **params).sum(dim=-3)
        steps = torch.linspace(0, 1, self._rungs, dtype=x1.dtype, device=x1.device)[:, None]
        one, other = (self._on_rungs(x[..., : self._ranks]) for x in (x1, x2))
        ranked: Tensor = (one @ super().forward(steps, steps, **params)).flatten(-2) @ other.flatten(-2).mT
        return (summed + ranked) / x1.shape[-1]

    def _on_rungs(self, x: Tensor) -> Tensor:
        """Which rung each rank is on, ``[…, n, ranks, rungs]``."""
        return one_hot((x * (self._rungs - 1)).round().long(), self._rungs).to(x.dtype)


class _FromExpected(Mean):  # type: ignore[misc]  # GPyTorch is untyped
    """A constant, and so much of what is expected as the scores bear out.

    A cheap score times a factor, and a Gaussian process for what that leaves: Kennedy and O'Hagan's autoregressive
    model of two fidelities (doi:10.1093/biomet/87.1.1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.constant = torch.nn.Parameter(torch.zeros(()))
        self.factor = torch.nn.Parameter(torch.full((), _TRUST))
        self.register_prior("factor_prior", NormalPrior(_TRUST, _TRUST), "factor")

    def forward(self, x: Tensor) -> Tensor:
        """``[…, n]`` from points ``[…, n, features]``."""
        return self.constant + self.factor * x[..., -2]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what BoTorch says of fits that did not converge."""
    with warnings.catch_warnings():
        for category in (BotorchWarning, NumericalWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        yield
