"""What is believed of a map's score before it is trained."""

import warnings

import numpy as np
import pytest
import torch

from rank_search.search.proposals import score_model as module
from rank_search.search.proposals.encoder import Encoder
from rank_search.search.proposals.score_model import _OwnParts, quiet, score_model
from tests.bench import SPACE
from tests.search.proposals.spaces import JOINT, LARGE, landscape

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it uses torch.jit.script
    from botorch.exceptions.errors import ModelFittingError
    from botorch.exceptions.warnings import BotorchWarning
    from linear_operator.utils.warnings import NumericalWarning

ENCODER = Encoder(SPACE)
MAPS = np.random.default_rng(0).permutation(np.array(ENCODER.every()))
POINTS = ENCODER.points(MAPS)
SCORES = np.array([landscape(SPACE, proposal) for proposal in MAPS])
SHAPE = {"ranks": len(SPACE.dimensions), "rungs": len(SPACE.ladder)}


def predicted(model, points) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations."""
    with quiet(), torch.no_grad():
        posterior = model.posterior(points)
    return posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()


def fitted(points, scores, variances=None, **options):
    with quiet():
        return score_model(points, scores, variances, **{**SHAPE, **options})


@pytest.mark.parametrize("space", [SPACE, JOINT, LARGE], ids=["listed", "with settings", "drawn"])
def test_own_parts_are_the_mean_of_kernels_of_one_feature_each(space) -> None:
    draw, encoder = np.random.default_rng(0), Encoder(space)
    x = encoder.points([encoder.drawn(draw) for _ in range(12)])
    kernel = _OwnParts(len(space.dimensions), len(space.ladder)).double()
    kernel.lengthscale = 0.3
    found = kernel(x[:5], x).to_dense()
    apart = (x[:5, None] - x[None]).detach() / 0.3
    assert torch.allclose(found, torch.exp(-(apart**2) / 2).mean(-1), atol=1e-12)
    assert torch.allclose(kernel(x, diag=True), torch.ones(12, dtype=x.dtype))
    found.sum().backward()
    slope = (torch.exp(-(apart**2) / 2) * apart**2 / 0.3).mean(-1).sum()
    assert kernel.raw_lengthscale.grad.item() == pytest.approx(
        (slope * torch.sigmoid(kernel.raw_lengthscale)).item(), rel=1e-6
    )


def test_scores_of_other_maps_are_predicted_from_a_few() -> None:
    means, deviations = predicted(fitted(POINTS[:30], SCORES[:30]), POINTS[30:])
    errors = means - SCORES[30:]
    assert np.sqrt(np.mean(errors**2)) < 0.2 * SCORES.std()
    assert np.mean(np.abs(errors) < 2 * deviations + 1e-3) > 0.9


def test_unit_of_the_scores_does_not_matter() -> None:
    means, deviations = predicted(fitted(POINTS[:20], SCORES[:20]), POINTS[20:])
    scaled_means, scaled_deviations = predicted(fitted(POINTS[:20], 100 * SCORES[:20] - 7), POINTS[20:])
    assert scaled_means == pytest.approx(100 * means - 7, abs=0.05)
    assert scaled_deviations == pytest.approx(100 * deviations, abs=0.05)


def test_a_lucky_training_is_believed_less_where_its_variance_is_known() -> None:
    scores, variances = SCORES[:30].copy(), np.full(30, 1e-6)
    scores[0] += 0.2
    sure, _ = predicted(fitted(POINTS[:30], scores, variances), POINTS[:1])
    variances[0] = 0.1**2
    unsure, _ = predicted(fitted(POINTS[:30], scores, variances), POINTS[:1])
    assert abs(unsure[0] - SCORES[0]) < 0.5 * abs(sure[0] - SCORES[0])


@pytest.mark.parametrize("sign", [1, -1], ids=["true", "misleading"])
def test_what_is_expected_is_believed_as_far_as_the_scores_bear_it_out(sign) -> None:
    """From eight maps: where the expectation is true, it says nearly all of the others."""
    expected = torch.as_tensor(sign * (SCORES - SCORES.mean()) / SCORES.std())[:, None]
    points = torch.cat([POINTS[:, :-1], expected, POINTS[:, -1:]], dim=1)
    model = fitted(points[:8], SCORES[:8], expected=True)
    errors = predicted(model, points[8:])[0] - SCORES[8:]
    plain_errors = predicted(fitted(POINTS[:8], SCORES[:8]), POINTS[8:])[0] - SCORES[8:]
    ratio = np.sqrt(np.mean(errors**2) / np.mean(plain_errors**2))
    assert ratio < 0.5 if sign == 1 else ratio < 1.5


def test_equal_scores_predict_themselves() -> None:
    means, _ = predicted(fitted(POINTS[:10], np.full(10, 0.5)), POINTS[10:20])
    assert means == pytest.approx(np.full(10, 0.5), abs=1e-6)


def test_a_fit_that_fails_leaves_a_model_that_predicts(monkeypatch) -> None:
    def fail(*_arguments, **_options):
        raise ModelFittingError("no step helps")

    monkeypatch.setattr(module, "fit_gpytorch_mll", fail)
    means, deviations = predicted(fitted(POINTS[:10], SCORES[:10]), POINTS[10:])
    assert np.isfinite(means).all()
    assert (deviations > 0).all()


@pytest.mark.parametrize("category", [BotorchWarning, NumericalWarning, RuntimeWarning])
def test_fits_that_did_not_converge_are_not_reported(category) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("did not converge", category, stacklevel=1)
        warnings.warn("did not converge", category, stacklevel=1)
    assert len(seen) == 1


def test_other_warnings_are_reported() -> None:
    with pytest.warns(UserWarning, match="something else"), quiet():
        warnings.warn("something else", UserWarning, stacklevel=1)
