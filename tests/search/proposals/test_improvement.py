"""The expected improvement is that of BoTorch's general one, and of hypervolumes counted one by one."""

import warnings

import numpy as np
import pytest
import torch
from optuna._hypervolume import compute_hypervolume

from rank_search.search.proposals.encoder import Encoder
from rank_search.search.proposals.improvement import ExpectedImprovement
from rank_search.search.proposals.score_model import quiet, score_model
from tests.bench import SPACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from botorch.acquisition.multi_objective.monte_carlo import qNoisyExpectedHypervolumeImprovement
    from botorch.models import ModelList
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.sampling.get_sampler import get_sampler

REFERENCE = (0.1, 1.1)


@pytest.fixture(scope="module")
def modelled():
    """A model of twelve maps, and the points of all that are left."""
    coding = Encoder(SPACE)
    every = coding.every()
    seen = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:12]]
    scores = np.array([sum(SPACE.ladder[i] ** 0.5 for i in proposal.values()) / 8 for proposal in seen])
    scores += np.random.default_rng(1).normal(0, 0.05, 12)
    x = coding.points(seen)
    with quiet():
        model = score_model(x, scores, ranks=x.shape[-1] - 1, rungs=len(SPACE.ladder))
    pool = coding.points([proposal for proposal in every if proposal not in seen])
    return coding, model, x, pool


def price(coding, points):
    return -coding.negative_cost(points)[..., 0]


def test_it_is_botorchs(modelled) -> None:
    coding, model, x, pool = modelled
    ours = ExpectedImprovement(model, x, price(coding, x), REFERENCE, seed=0)(pool, price(coding, pool))
    with quiet(), torch.no_grad():
        both = ModelList(model, GenericDeterministicModel(coding.negative_cost))
        general = qNoisyExpectedHypervolumeImprovement(
            model=both,
            ref_point=[REFERENCE[0], -REFERENCE[1]],
            X_baseline=x,
            sampler=get_sampler(both.posterior(x[:1]), torch.Size([2048]), seed=0),
            prune_baseline=False,
            cache_root=False,
        )
        theirs = general(pool[:, None])
    # Ours with 128 draws, theirs with 2,048: as near as two estimates are.
    assert np.corrcoef(ours.clamp(min=0), theirs)[0, 1] > 0.98
    assert ours.clamp(min=0).sum() == pytest.approx(theirs.sum().item(), rel=0.1)
    assert theirs[int(ours.argmax())] > 0.9 * theirs.max()


def test_without_uncertainty_it_is_the_hypervolume_that_a_map_adds(modelled) -> None:
    """Counted by Optuna, map by map."""
    coding, model, x, pool = modelled

    class Sure:
        def posterior(self, points):
            mean = model.posterior(points).mean[:, 0]
            covariance = 1e-12 * torch.eye(len(points), dtype=points.dtype)
            return type("Law", (), {"distribution": torch.distributions.MultivariateNormal(mean, covariance)})

    with torch.no_grad():
        scores = [model.posterior(points).mean[:, 0].numpy() for points in (x, pool)]
    ours = ExpectedImprovement(Sure(), x, price(coding, x), REFERENCE, seed=0)(pool, price(coding, pool))
    corner = np.array([-REFERENCE[0], REFERENCE[1]])
    known = np.column_stack([-scores[0], price(coding, x)])
    before = compute_hypervolume(known[(known < corner).all(axis=1)], corner)
    for score, cost, found in zip(scores[1], price(coding, pool).numpy(), ours.numpy(), strict=True):
        points = np.vstack([known, [-score, cost]])
        gain = compute_hypervolume(points[(points < corner).all(axis=1)], corner) - before
        assert max(found, 0) == pytest.approx(gain, abs=1e-4)


def test_maps_that_never_stand_on_the_front_change_nothing(modelled) -> None:
    coding, model, x, pool = modelled
    behind = pool[price(coding, pool).argsort()][-60:]  # large maps, whose scores are known to be bad
    both = torch.cat([x, behind])

    class Known:
        def posterior(self, points):
            law = model.posterior(points).distribution
            bad = (points[:, None] == behind[None]).all(dim=2).any(dim=1)
            mean = torch.where(bad, -1.0, law.mean)
            covariance = torch.where(bad[:, None] | bad[None], 0.0, law.covariance_matrix).diagonal_scatter(
                torch.where(bad, 1e-10, law.variance)
            )
            return type(
                "Law", (), {"distribution": type("Normal", (), {"mean": mean, "covariance_matrix": covariance})}
            )

    left = pool[price(coding, pool).argsort()][:-60]
    few, many = (ExpectedImprovement(Known(), known, price(coding, known), REFERENCE, seed=0) for known in (x, both))
    assert len(few._known) <= len(x)
    assert len(many._known) <= len(x)
    gains = [improvement(left, price(coding, left)).clamp(min=0).numpy() for improvement in (few, many)]
    assert np.corrcoef(*gains)[0, 1] > 0.99
    assert gains[0].sum() == pytest.approx(gains[1].sum(), rel=0.15)


def test_candidates_are_drawn_from_their_law_where_the_covariance_is_singular() -> None:
    """Scores without noise of nearly all maps: its factor needs an addition to the diagonal."""
    coding = Encoder(SPACE)
    every = coding.every()
    seen = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:200]]
    scores = np.array([sum(SPACE.ladder[i] ** 0.5 for i in proposal.values()) / 8 for proposal in seen])
    x, pool = coding.points(seen), coding.points([proposal for proposal in every if proposal not in seen])
    with quiet():
        model = score_model(x, scores, ranks=x.shape[-1] - 1, rungs=4)
    with quiet(), torch.no_grad():
        improvement = ExpectedImprovement(model, x, price(coding, x), REFERENCE, seed=0)
        drawn = improvement._drawn(pool)
        law = model.posterior(pool)
    assert improvement._white.std() == pytest.approx(1, abs=0.2)
    ratio = drawn.std(dim=0) / law.variance[:, 0].sqrt()
    assert 0.7 < ratio.min() < ratio.max() < 1.3


def test_it_is_the_same_in_blocks(modelled, monkeypatch) -> None:
    coding, model, x, pool = modelled
    improvement = ExpectedImprovement(model, x, price(coding, x), REFERENCE, seed=0)
    whole = improvement(pool, price(coding, pool))
    monkeypatch.setattr("rank_search.search.proposals.improvement._BLOCK", 32)
    assert torch.allclose(improvement(pool, price(coding, pool)), whole, atol=1e-10)
