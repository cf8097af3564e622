"""Quantiles of a mixture, compared with scipy's distributions and with samples."""

from collections.abc import Callable

import pytest
import torch
from pyro.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Delta,
    Laplace,
    MultivariateStudentT,
    Normal,
    Poisson,
    StudentT,
    TorchDistribution,
)
from scipy import stats
from torch import Tensor
from torch.nn.functional import one_hot

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, fit
from mixpyro.distributions.bisection import bisected
from mixpyro.distributions.censored_normal import CensoredNormal
from mixpyro.distributions.concatenated import Concatenated
from mixpyro.distributions.counts import PreciseBinomial, PrecisePoisson
from mixpyro.distributions.joined_outputs import JoinedOutputs
from mixpyro.distributions.mixture_quantiles import mixture_quantiles
from mixpyro.distributions.multinomial import PreciseMultinomial
from mixpyro.distributions.negative_binomial import PreciseNegativeBinomial
from mixpyro.distributions.quantiles import cumulative
from mixpyro.distributions.student_t import PreciseStudentT
from mixpyro.distributions.zero_truncated_poisson import ZeroTruncatedPoisson
from mixpyro.experts.families import Categorical as CategoricalFamily
from mixpyro.experts.families import Poisson as PoissonFamily
from mixpyro.numerics import blocks
from tests.problems import inputs, lines

PROBABILITIES = torch.tensor([0.001, 0.05, 0.3, 0.5, 0.9, 0.999]).double()
A, B = torch.tensor([0.7, 12.0]).double(), torch.tensor([0.3, 2.5]).double()


@pytest.mark.parametrize(
    ("distribution", "by_scipy"),
    [
        (Normal(A, B), stats.norm(A, B).cdf),
        (StudentT(B, A, B), stats.t(B, A, B).cdf),
        (Poisson(A), stats.poisson(A).cdf),
        (Binomial(9, B / 3), stats.binom(9, B / 3).cdf),
        (Bernoulli(B / 3), stats.bernoulli(B / 3).cdf),
        (Delta(A), lambda y: y >= A.numpy()),
    ],
    ids=["normal", "student-t", "poisson", "binomial", "bernoulli", "delta"],
)
def test_cumulative_functions_agree_with_scipy(distribution: Normal, by_scipy: Callable[[Tensor], Tensor]) -> None:
    for y in (-1.0, 0.0, 0.7, 3.0, 3.5, 12.0, 40.0):
        value = torch.full((2,), y).double()
        exact = torch.as_tensor(by_scipy(value.numpy())).double()  # type: ignore[arg-type]
        torch.testing.assert_close(cumulative(distribution, value), exact)


def test_a_marginal_of_a_multivariate_t_is_a_t() -> None:
    root = torch.tensor([[2.0, 0.0], [1.0, 0.5]]).double()
    ours = cumulative(MultivariateStudentT(torch.tensor(4.0).double(), A, root), torch.ones(2).double())
    scale = (root @ root.mT).diagonal().sqrt()
    torch.testing.assert_close(ours, torch.as_tensor(stats.t(4.0, A, scale).cdf(1.0)))


@pytest.mark.parametrize(
    ("distribution", "by_scipy"),
    [
        (Normal(A, B), stats.norm(A, B).ppf),
        (Poisson(A), stats.poisson(A).ppf),
        (StudentT(B, A, B), stats.t(B, A, B).ppf),
    ],
    ids=["normal", "poisson", "student-t"],
)
def test_quantiles_of_a_component_with_all_the_weight_are_its_own(
    distribution: Normal, by_scipy: Callable[[float], Tensor]
) -> None:
    components = distribution.expand((5, 2)).to_event(0)
    for k in range(2):
        weights = torch.nn.functional.one_hot(torch.tensor(k), 2).double().expand(5, 2)
        ours = mixture_quantiles(weights, of_one_output(components), PROBABILITIES)
        exact = torch.stack([torch.as_tensor(by_scipy(float(p)))[k].double() for p in PROBABILITIES])
        torch.testing.assert_close(ours, exact.reshape(-1, 1, 1).expand(-1, 5, 1))


def of_one_output(components: Normal) -> Normal:
    """The same components with batch shape [N, K] and event shape [1]."""
    names = components.arg_constraints.keys() & {"loc", "scale", "df", "rate"}
    return type(components)(**{name: getattr(components, name).unsqueeze(-1) for name in names}).to_event(1)


@pytest.mark.filterwarnings("ignore:only one of")
def test_quantiles_of_a_fitted_mixture_agree_with_its_samples() -> None:
    x, y, _ = lines(80, 2)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    fit(mixture, x, y, n_restarts=4)
    grid = inputs(3, 1, seed=4)
    ours = mixture.quantile(grid, PROBABILITIES)
    samples = mixture.predictive(grid).sample((20_000,))
    below = (samples.unsqueeze(0) <= ours.unsqueeze(1)).double().mean(1)
    wanted = PROBABILITIES.reshape(-1, 1, 1).expand_as(below)
    assert ((below - wanted).abs() < 4.5 * (wanted * (1 - wanted) / 20_000).sqrt()).all()


def test_quantiles_of_counts_are_counts() -> None:
    x = inputs(50, 1)
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, PoissonFamily()))
    with torch.no_grad():
        mixture.experts.coefficients[0, 0, 0] = 2.0
    quantiles = mixture.quantile(x, PROBABILITIES)
    assert torch.equal(quantiles, quantiles.round())
    rates = mixture.experts.predict(x[:1]).detach().flatten().numpy()
    for probability, ours in zip(PROBABILITIES.tolist(), quantiles[:, 0, 0].tolist(), strict=True):
        reached = [n for n in range(40) if 0.5 * stats.poisson(rates).cdf(n).sum() >= probability]
        assert ours == reached[0]


@pytest.mark.usefixtures("bad_arguments")
def test_bad_probabilities_and_families_without_an_order_are_refused() -> None:
    x = inputs(5, 1)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    for bad in ([0.0], [1.0], [float("nan")]):
        with pytest.raises(ValueError, match=r"`probabilities` must be above 0 and below 1; got \["):
            mixture.quantile(x, torch.tensor(bad))
    with pytest.raises(TypeError, match=r"`probabilities` must be a tensor, an array, a list.*; got str"):
        mixture.quantile(x, "median")
    categories = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, CategoricalFamily(3)))
    with pytest.raises(TypeError, match="`experts` must have outputs with a known cumulative distribution; got Categ"):
        categories.quantile(x, PROBABILITIES)
    with pytest.raises(TypeError, match="got Categorical"):
        cumulative(Categorical(A), A)


def several_families() -> dict[str, TorchDistribution]:
    """Distributions of 12 rows, 3 components and 2 outputs, with parameters of very different sizes."""
    torch.manual_seed(0)
    a, b, c = torch.randn(3, 12, 3, 2).double()
    joined = [PreciseStudentT(b.exp(), a, c.exp()).to_event(1), PrecisePoisson(a).to_event(1)]  # type: ignore[no-untyped-call]
    return {
        "normal": Normal(10.0 * a, b.exp()).to_event(1),
        "far apart": Normal(1e4 * a, 0.01 * b.exp()).to_event(1),
        "large": Normal(1e200 * a, 1e200 * b.exp()).to_event(1),
        "student-t": joined[0],
        "heavy tails": StudentT(0.05 * b.exp(), a, c.exp()).to_event(1),
        "multivariate t": MultivariateStudentT(torch.tensor([2.0, 3.0, 9.0]).double(), a, torch.eye(2).double()),
        "poisson": joined[1],
        "large counts": PrecisePoisson(20.0 + 5.0 * a).to_event(1),  # type: ignore[no-untyped-call]
        "binomial": PreciseBinomial(torch.tensor(30.0).double().expand(12, 3, 2), a).to_event(1),  # type: ignore[no-untyped-call]
        "bernoulli": Bernoulli(a.sigmoid()).to_event(1),
        "points": Delta(a.round(decimals=1), event_dim=1),
        "points at zero": Delta(a.round(), event_dim=1),
        "negative binomial": PreciseNegativeBinomial(a, (3.0 * b).exp()).to_event(1),  # type: ignore[no-untyped-call]
        "truncated": ZeroTruncatedPoisson(2.0 * a).to_event(1),  # type: ignore[no-untyped-call]
        "censored": CensoredNormal(a[..., 0], b[..., 0].exp()),
        "multinomial": PreciseMultinomial(torch.tensor(9.0).double().expand(12, 3), a),
        "different outputs": JoinedOutputs(joined),
        "different components": Concatenated([joined[0], Delta(b, event_dim=1), joined[1]]),
        "an unknown family": Laplace(a, b.exp()).to_event(1),
    }


@cumulative.register
def _(distribution: Laplace, y: Tensor) -> Tensor:
    return distribution.cdf(y)


@pytest.mark.parametrize("family", several_families())
def test_quantiles_agree_with_plain_bisection(family: str) -> None:
    components = several_families()[family]
    n_components = components.batch_shape[-1]
    weights = torch.distributions.Dirichlet(torch.ones(n_components).double()).sample((12,))
    weights[:2] = one_hot(torch.tensor([0, 1]), n_components)
    weights[2] = 0.5 * (weights[0] + weights[1])
    probabilities = torch.tensor([0.9, 1e-6, 0.5, 0.05, 0.5, 1.0 - 1e-6]).double()
    ours = mixture_quantiles(weights, components, probabilities, has_density=False)
    exact = bisected(weights, components, probabilities)
    # What is far out in units of a component is known to the digits that its cumulative function has.
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-14 if family != "large" else 1e190)
    if family in ("poisson", "binomial", "negative binomial", "truncated", "multinomial", "points"):
        assert torch.equal(ours, exact)
    rising = ours[probabilities.argsort(stable=True)].diff(dim=0)
    assert bool((rising >= 0).all())


def test_blocks_of_rows_change_no_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    components = several_families()["student-t"]
    weights = torch.full((12, 3), 1.0 / 3.0).double()
    whole = mixture_quantiles(weights, components, PROBABILITIES)
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1, least_rows=5))
    assert torch.equal(mixture_quantiles(weights, components, PROBABILITIES), whole)


def test_no_rows_have_no_quantiles() -> None:
    components = Normal(torch.zeros(0, 2, 1).double(), torch.ones(0, 2, 1).double()).to_event(1)
    assert mixture_quantiles(torch.ones(0, 2).double(), components, PROBABILITIES).shape == (6, 0, 1)
