"""Single outputs that were not observed: bounds and sums by quadrature, EM by hand, marginal densities by SciPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy import stats
from torch import Generator, Tensor

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MixtureOfExperts,
    PointMassExperts,
    RelevanceLinearExperts,
    StreamingFit,
    coefficients,
    criteria,
    fit,
    linear_response,
)
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.experts.families import Poisson
from tests.problems import lines, responsibilities

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]

N, NAN = 40, float("nan")
EXPERTS: dict[str, Callable[[], Any]] = {
    "full": lambda: GaussianExperts(2, 3),
    "diagonal": lambda: GaussianExperts(2, 3, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(2, 3, covariance="spherical"),
    "tied": lambda: GaussianExperts(2, 3, covariance="tied"),
    "linear": lambda: LinearExperts(2, 1, 3),
    "shared noise": lambda: LinearExperts(2, 1, 3, noise_per_output=False, noise_per_component=False),
    "no intercept": lambda: LinearExperts(2, 1, 3, intercept=False),
    "relevance": lambda: RelevanceLinearExperts(2, 1, 3),
}


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Rows of three correlated outputs, all of them and with a quarter of the values missing."""
    x, y, _ = lines(N, 2, n_outputs=3, seed=3)
    generator = Generator().manual_seed(5)
    y = y + 0.5 * y[:, [1, 2, 0]]
    missing = torch.rand(N, 3, generator=generator) < 0.25
    missing[0] = torch.tensor([True, False, False])
    missing[1] = torch.tensor([True, False, True])
    return x, y, torch.where(missing, NAN, y)


def updated(kind: str) -> tuple[ConjugateExperts, Tensor, Tensor]:
    """Experts that have learnt from complete rows, with rows that are not."""
    experts, (x, y, incomplete) = EXPERTS[kind](), problem()
    experts.centre(x, y)
    experts.update(experts.statistics(x, y, responsibilities(N, 2)))
    return experts, x, incomplete


def grid(experts: ConjugateExperts, x: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Values of the missing outputs of a row, completed [M, 3], and the volume of a cell times exp E log p [M, 2]."""
    absent = row.isnan().nonzero().flatten().tolist()
    sides = torch.linspace(-30.0, 30.0, 601 if len(absent) > 1 else 20001, dtype=torch.float64)
    cells = torch.cartesian_prod(*([sides] * len(absent))).reshape(-1, len(absent))
    rows = row.repeat(len(cells), 1)
    rows[:, absent] = cells
    log_density = experts.expected_log_likelihood(x.expand(len(rows), -1), rows).detach()
    return rows, log_density.exp() * float(sides[1] - sides[0]) ** len(absent)


@pytest.mark.parametrize("kind", EXPERTS)
def test_missing_outputs_are_integrated_out_under_expected_precisions(kind: str) -> None:
    experts, x, y = updated(kind)
    columns = experts.columns_of_incomplete(x[:2], y[:2], None)
    found = experts.log_likelihoods_of_objects(columns)
    for row in range(2):
        rows, density = grid(experts, x[row], y[row])
        torch.testing.assert_close(found[:, row], density.sum(0).log(), rtol=1e-6, atol=1e-6)
        r = torch.tensor([[0.3], [0.7]], dtype=torch.float64)
        own = experts.columns_of_incomplete(x[row : row + 1], y[row : row + 1], None)
        weighted = r.mT * density / density.sum(0)
        expected = experts.statistics(x[row].expand(len(rows), -1), rows, weighted)
        pairs = zip(experts.sums_of_objects(own, r), expected, strict=True)
        assert all(torch.allclose(one, other, rtol=1e-5, atol=1e-5) for one, other in pairs)


@pytest.mark.parametrize("kind", ["full", "spherical", "linear", "relevance"])
def test_bounds_rise_and_marginals_are_those_of_the_predictive(kind: str) -> None:
    x, y, incomplete = problem()
    mixture = MixtureOfExperts(DirichletGate(2), EXPERTS[kind]())
    options: dict[str, Any] = {"n_restarts": 2, "n_candidates": 1, "progress": False}
    result = fit(mixture, x, incomplete, missing="ignore", **options)
    assert result.converged and bool((torch.tensor(result.trace).diff() > -1e-9).all())
    assert float(mixture.bound(x, incomplete)) == pytest.approx(result.bound, abs=1e-8)
    log_prob = mixture.log_prob(x, incomplete)
    assert criteria(result, x, incomplete).log_likelihood == pytest.approx(float(log_prob.sum()))
    joint = mixture.experts.log_prob_of_objects(x, incomplete, None)
    sides = torch.linspace(-60.0, 60.0, 20001, dtype=torch.float64)
    rows = incomplete[0].repeat(len(sides), 1)
    rows[:, 0] = sides
    density = mixture.experts.predictive(x[0].expand(len(rows), -1)).log_prob(rows.unsqueeze(1)).exp()
    joint = mixture.experts.log_prob_of_objects(x, incomplete, None)
    expected = (density.sum(0) * float(sides[1] - sides[0])).log()
    torch.testing.assert_close(joint[:, 0], expected, rtol=1e-3, atol=1e-3)
    if kind == "full":
        whole = fit(MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 3)), x, y, **options)
        same = fit(MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 3)), x, y, missing="ignore", **options)
        assert whole.bound == same.bound


def test_a_marginal_density_is_that_of_scipy() -> None:
    experts, x, y = updated("full")
    q = experts.posterior
    found = experts.log_prob_of_objects(x[:2], y[:2], None)[1]
    degrees = float(q.degrees[1]) - 2.0
    shape = q.scale[1] * float((1.0 + 1.0 / q.mean_precision[1]) / degrees)
    mean = experts.means[1]
    for row, seen in ((0, [1, 2]), (1, [1])):
        own = stats.multivariate_t(mean[seen].numpy(), shape[seen][:, seen].numpy(), df=degrees)
        assert float(found[row]) == pytest.approx(float(own.logpdf(y[row, seen].numpy())), abs=1e-9)


def em_by_hand(y: np.ndarray, n_iterations: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one Gaussian by maximum likelihood; Little, Rubin (2019), section 11.2.1."""
    mean, covariance = np.nanmean(y, 0), np.diag(np.nanvar(y, 0))
    for _ in range(n_iterations):
        filled, extra = y.copy(), np.zeros_like(covariance)
        for row in filled:
            m = np.isnan(row)
            if m.any():
                slope = np.linalg.solve(covariance[np.ix_(~m, ~m)], covariance[np.ix_(~m, m)]).T
                row[m] = mean[m] + slope @ (row[~m] - mean[~m])
                extra[np.ix_(m, m)] += covariance[np.ix_(m, m)] - slope @ covariance[np.ix_(~m, m)]
        mean = filled.mean(0)
        covariance = ((filled - mean).T @ (filled - mean) + extra) / len(y)
    return mean, covariance


def test_with_a_weak_prior_a_density_is_that_of_em() -> None:
    _, y, _ = lines(80, 1, n_outputs=3, seed=2)
    y = y + 0.3 * torch.randn(80, 3, generator=Generator().manual_seed(1)).double()
    y[torch.rand(80, generator=Generator().manual_seed(2)) < 0.4, 1] = NAN
    y[y[:, 2] > 0.5, 0] = NAN  # at random given what was observed
    y = y[~y.isnan().all(1)]
    mean, covariance = em_by_hand(y.numpy())
    # With ν₀ = P − 1 and Ψ₀ → 0 the expected precision is the inverse of the covariance, up to the mean's own spread.
    experts = GaussianExperts(1, 3, mean_precision=1e-9, degrees_of_freedom=2.0 + 1e-9, scale=1e-9)
    fit(
        MixtureOfExperts(DirichletGate(1), experts),
        torch.zeros(len(y), 0).double(),
        y,
        missing="ignore",
        n_candidates=1,
        progress=False,
    )
    torch.testing.assert_close(experts.means[0], torch.as_tensor(mean), rtol=0.02, atol=0.01)
    found = experts.posterior.scale[0] / experts.posterior.degrees[0]
    torch.testing.assert_close(found, torch.as_tensor(covariance), rtol=0.03, atol=0.01)


def test_pyro_scores_what_was_observed() -> None:
    """The program integrates missing outputs given the parameters, which is no less than the bound's own q of them."""
    x, _, y = problem()
    mixture = MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 3))
    result = fit(mixture, x, y, missing="ignore", n_restarts=2, progress=False)
    elbo = TraceEnum_ELBO(max_plate_nesting=1, num_particles=5)
    found = -elbo.loss(mixture.model, mixture.guide, x, y)
    assert result.bound - 0.5 < found < result.bound + 10.0


def test_groups_float32_and_streams() -> None:
    x, _, y = problem()
    ids = torch.arange(N) // 4

    def make() -> MixtureOfExperts:
        return MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 3))

    options: dict[str, Any] = {
        "n_restarts": 1,
        "n_candidates": 1,
        "max_iterations": 20,
        "progress": False,
        "missing": "ignore",
    }
    grouped = fit(make(), x, y, groups=ids, **options)
    assert float(grouped.mixture.bound(x, y, groups=ids)) == pytest.approx(grouped.bound, abs=1e-8)
    alone, rows = fit(make(), x, y, groups=range(N), **options), fit(make(), x, y, **options)
    assert alone.bound == pytest.approx(rows.bound, abs=1e-8)
    single = fit(make(), x.float(), y.float(), **options)
    assert single.bound == pytest.approx(rows.bound, rel=1e-4)
    stream = StreamingFit(make(), n_restarts=1)
    for some in (slice(0, 20), slice(20, N)):
        stream.partial_fit(x[some], y[some], missing="ignore")
    assert bool(stream.mixture.predict(x).isfinite().all())


def test_reports_and_other_experts_say_what_they_need() -> None:
    x, _, y = problem()
    result = fit(
        MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1, 3)), x, y, missing="ignore", n_restarts=1, progress=False
    )
    with pytest.raises(ValueError, match="`y` must have all outputs of a row or none for a linear response"):
        linear_response(result, x, y)
    with pytest.warns(RuntimeWarning, match="mean field's, which takes what is missing for seen"):
        coefficients(result, x, y)
    banks: list[Any] = [
        PointMassExperts(2, n_outputs=3),
        HeterogeneousExperts([LinearExperts(1, 1, 3), LinearExperts(1, 1, 3)]),
    ]
    for experts in banks:
        with pytest.raises(ValueError, match=f"all outputs of a row or none for {type(experts).__name__}"):
            fit(MixtureOfExperts(DirichletGate(2), experts), x, y, missing="ignore")


def test_outcomes_of_unlike_families_drop_out_one_by_one() -> None:
    """With one component the bound is the sum of those of the outcomes, each of the rows that have it."""
    x, measured, _ = lines(N, 1, seed=2)
    counts = torch.poisson((1.0 + 0.5 * x).exp(), generator=Generator().manual_seed(3))
    measured[::3], counts[1::4] = NAN, NAN
    y = torch.cat([measured, counts], dim=1)

    def bound(experts: Any, x: Tensor, y: Tensor, missing: str = "error") -> float:
        return fit(MixtureOfExperts(DirichletGate(1), experts), x, y, missing=missing, progress=False).bound

    def poisson() -> GLMExperts:
        return GLMExperts(1, 1, Poisson(), prior_scale=2.0)

    together = bound(HeterogeneousOutputs([LinearExperts(1, 1), poisson()]), x, y, "ignore")
    seen = ~y.isnan()
    alone = [bound(LinearExperts(1, 1), x[seen[:, 0]], measured[seen[:, 0]])]
    alone += [bound(poisson(), x[seen[:, 1]], counts[seen[:, 1]])]
    assert together == pytest.approx(sum(alone), abs=1e-8)
    mixture = MixtureOfExperts(
        DirichletGate(2), HeterogeneousOutputs([LinearExperts(2, 1), GLMExperts(2, 1, Poisson())])
    )
    result = fit(mixture, x, y, missing="ignore", groups=torch.arange(N) // 2, n_restarts=1, progress=False)
    assert float(mixture.bound(x, y, groups=torch.arange(N) // 2)) == pytest.approx(result.bound, abs=1e-6)
