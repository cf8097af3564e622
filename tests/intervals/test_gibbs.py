"""The exact samplers leave the joint distribution of parameters and data as it is, and agree with sums and grids."""

import functools
import itertools

import pytest
import scipy.stats
import torch
from torch import Generator, Tensor
from torch.distributions import Gamma, MultivariateNormal, Normal, Poisson

from mixpyro.conjugate.normal_gamma import NormalGamma
from mixpyro.conjugate.normal_wishart import NormalWishart
from tests.intervals.gibbs import Pair, Proposal, gibbs
from tests.intervals.gibbs_conjugate import Densities, DirichletWeights, Lines, products
from tests.intervals.gibbs_estimated import PoissonRegressions, SoftmaxWeights, moved
from tests.intervals.prior_draws import (
    CONCENTRATION,
    LINES,
    B,
    K,
    N,
    P,
    repeated,
    repeated_prior,
    simulated_counts,
    simulated_densities,
    simulated_gate,
    simulated_lines,
)


def z_scores(gate: str, experts: str, *, collapsed: bool, factor: float = 1.0, n_sweeps: int = 5) -> Tensor:
    """Return standardised differences of moments before and after some sweeps, which leave the joint as it is."""
    x = torch.randn(B, N, 1).double()
    design = torch.cat([torch.ones_like(x), x], -1)
    of_gate, gate_truth, z = simulated_gate(gate, design)
    if experts == "lines":
        of_experts, truth, y = simulated_lines(design, z, factor)
    elif experts == "poisson":
        of_experts, truth, y = simulated_counts(design, z)
    else:
        of_experts, truth, y = simulated_densities(experts, z)
    pair = Pair(of_gate, of_experts, K)
    before = pair.joined(gate_truth, truth)
    spread = before.mean(0), before.mT.cov() + 0.1 * torch.eye(before.shape[-1]).double()
    proposal = Proposal(*(repeated(part) for part in spread)) if collapsed else None
    after = gibbs(pair, z, n_draws=1, thin=n_sweeps, start=before, proposal=proposal)[0]
    rows = y.reshape(B, N, -1)
    data = torch.cat([rows.mean(1), rows.square().mean(1), (rows * x).mean(1)], -1)
    differences = bounded(after, data) - bounded(before, data)
    return differences.mean(0) / (differences.std(0) / B**0.5)


def bounded(quantities: Tensor, data: Tensor) -> Tensor:
    """Return quantities, their products, and their products with what the data are, all from −1 to 1."""
    quantities, data = (0.7 * quantities).tanh(), (0.5 * data).tanh()
    crossed = (quantities.unsqueeze(-1) * data.unsqueeze(-2)).flatten(1)
    return torch.cat([quantities, products(quantities), crossed], -1)


@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize(
    ("gate", "experts"),
    list(itertools.product(["dirichlet", "softmax"], ["lines", "poisson", "full", "diagonal", "spherical"])),
)
def test_sweeps_leave_the_joint_distribution_of_parameters_and_data(gate: str, experts: str, collapsed: bool) -> None:
    """Geweke (2004), Getting it right, with a chain for each of many data sets from the prior."""
    assert float(z_scores(gate, experts, collapsed=collapsed).abs().max()) < 4.5


@pytest.mark.parametrize("collapsed", [False, True])
def test_a_wrong_prior_changes_the_joint_distribution(collapsed: bool) -> None:
    assert float(z_scores("dirichlet", "lines", collapsed=collapsed, factor=1.2).abs().max()) > 6.0


def expected_of_lines(prior: NormalGamma, quantities: Tensor) -> Tensor:
    """Return the log prior of one line's coefficients and log precision by torch."""
    w, log_tau = quantities[:2], quantities[2]
    covariance = torch.linalg.inv(prior.precision[0, 0] * log_tau.exp())
    of_w: Tensor = MultivariateNormal(prior.mean[0, 0, 0], covariance).log_prob(w)
    of_tau: Tensor = Gamma(prior.shape[0, 0], prior.rate[0, 0, 0]).log_prob(log_tau.exp())
    return of_w + of_tau + log_tau


def expected_of_densities(kind: str, prior: NormalWishart, quantities: Tensor) -> Tensor:
    """Return the log prior of one component's quantities by scipy and torch, with the Jacobian by autograd."""
    mean, scale = quantities[:P], prior.scale[0, 0]

    def precision(kinds: Tensor) -> Tensor:
        """Return Λ [P, P]."""
        unit = torch.eye(P).double()
        if kind == "full":
            unit = unit - torch.stack([torch.zeros(2).double(), torch.stack([kinds[2], torch.zeros(()).double()])])
        return unit.mT @ (kinds[:P] if kind != "spherical" else kinds[:1].expand(P)).exp().diag() @ unit

    kinds, degrees = quantities[P:], prior.degrees[0, 0]
    found = precision(kinds)
    covariance = torch.linalg.inv(found * prior.mean_precision[0, 0])
    of_mean: Tensor = MultivariateNormal(prior.mean[0, 0], covariance).log_prob(mean)
    if kind == "full":
        of_precision = scipy.stats.wishart.logpdf(found.numpy(), float(degrees), torch.linalg.inv(scale).numpy())
        rows = torch.tril_indices(P, P)
        jacobian = torch.autograd.functional.jacobian(lambda own: precision(own)[rows[0], rows[1]], kinds)
        return of_mean + float(of_precision) + jacobian.det().abs().log()
    factor = P if kind == "spherical" else 1
    return of_mean + (Gamma(0.5 * factor * degrees, 0.5 * factor * scale).log_prob(kinds.exp()) + kinds).sum()


@pytest.mark.parametrize("experts", ["lines", "full", "diagonal", "spherical"])
def test_the_density_of_the_prior(experts: str) -> None:
    """It is known but for a constant; all components but the first stay where they are."""
    design, z = torch.ones(B, N, 2).double(), torch.zeros(B, N, dtype=torch.long)
    sampler = simulated_lines(design, z, 1.0)[0] if experts == "lines" else simulated_densities(experts, z)[0]
    points = torch.randn(2, sum(K * size for size in sampler.sizes)).double()
    offsets, first = 0, []
    for size in sampler.sizes:
        first += list(range(offsets, offsets + size))
        offsets += K * size
    changed = points[0].clone()
    changed[first] = points[1][first]
    found = sampler.log_prior(torch.stack([points[0], changed]).repeat(B // 2, 1))
    changes = [point[first] for point in (points[0], changed)]
    if isinstance(sampler, Lines):
        expected = [expected_of_lines(sampler.prior, own) for own in changes]
    else:
        assert isinstance(sampler, Densities)
        expected = [expected_of_densities(experts, sampler.prior, own) for own in changes]
    torch.testing.assert_close(found[1] - found[0], expected[1] - expected[0])


def log_evidence(prior: NormalGamma, q: NormalGamma) -> Tensor:
    """Return the log evidence of a regression but for constants [K]; Murphy (2012), eq. 7.80."""
    of_noise = [p.shape.lgamma() - p.shape * p.rate.squeeze(-1).log() for p in (q, prior)]
    return of_noise[0] - of_noise[1] + 0.5 * (prior.precision.logdet() - q.precision.logdet())


def test_lines_are_those_of_the_sum_over_all_assignments() -> None:
    """Posterior means, each the sum over the 3⁶ assignments of 6 rows."""
    x = torch.linspace(-1.0, 1.0, 6).double().unsqueeze(-1)
    u, y = torch.cat([torch.ones_like(x), x], -1), torch.tensor([1.2, -0.3, 0.4, -1.5, 0.9, 0.1]).double()
    weights, means = [], []
    for assignment in itertools.product(range(K), repeat=6):
        posteriors, counts = [], []
        for k in range(K):
            rows = torch.tensor(assignment) == k
            precision = LINES.precision[k] + u[rows].mT @ u[rows]
            target = LINES.precision[k] @ LINES.mean[k, 0] + u[rows].mT @ y[rows]
            m = torch.linalg.solve(precision, target)
            squares = y[rows].square().sum() + LINES.mean[k, 0] @ LINES.precision[k] @ LINES.mean[k, 0] - m @ target
            shape, rate = LINES.shape[k] + 0.5 * rows.sum(), LINES.rate[k] + 0.5 * squares
            posteriors.append(NormalGamma(m.unsqueeze(0), precision, shape, rate))
            counts.append(rows.sum())
        q = NormalGamma(*(torch.stack(parts) for parts in zip(*posteriors, strict=True)))
        concentration = CONCENTRATION + torch.stack(counts)
        weights.append(log_evidence(LINES, q).sum() + concentration.lgamma().sum())
        log_ratio = concentration[1:].digamma() - concentration[0].digamma()
        log_noise = q.shape.digamma() - q.rate.squeeze(-1).log()
        means.append(torch.cat([log_ratio, q.mean.flatten(), log_noise]))
    expected = torch.stack(weights).softmax(0) @ torch.stack(means)
    n_chains = 400
    experts = Lines(repeated_prior(LINES, n_chains), u.expand(n_chains, 6, 2), y.expand(n_chains, 6))
    gate = DirichletWeights(repeated(CONCENTRATION, n_chains))
    draws = gibbs(Pair(gate, experts, K), torch.zeros(n_chains, 6, dtype=torch.long), n_draws=200)
    assert_mean(draws, expected)


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    """Assert that the mean of independent chains [S, B, Q] is the expected one, within its error."""
    of_chains = draws.mean(0)
    error = of_chains.std(0) / len(of_chains) ** 0.5
    assert float(((of_chains.mean(0) - expected) / error).abs().max()) < 4.0
    assert float((error / draws.flatten(0, 1).std(0)).max()) < 0.02


def test_constant_predictors_are_those_of_a_grid() -> None:
    """Of counts with a softmax gate there are three numbers; their means and squares by quadrature."""
    y, scales = torch.tensor([0.0, 1.0, 1.0, 4.0, 6.0]).double(), (1.5, 0.9)
    grid = torch.linspace(-6.0, 6.0, 161).double()
    c, a, b = torch.meshgrid(grid, grid[::2], grid[::2], indexing="ij")
    log_joint = Normal(0.0, scales[0]).log_prob(c) + sum(Normal(0.0, scales[1]).log_prob(own) for own in (a, b))
    for count in y:
        first, second = ((Poisson(own.exp()).log_prob(count)) for own in (a, b))
        weights = torch.stack([torch.zeros_like(c), c]).log_softmax(0)
        log_joint = log_joint + torch.stack([weights[0] + first, weights[1] + second]).logsumexp(0)
    posterior = log_joint.flatten().softmax(0)
    values = torch.stack([c.flatten(), a.flatten(), b.flatten()], -1)
    n_chains = 300
    design = torch.ones(n_chains, 5, 1).double()
    gate = SoftmaxWeights(scales[0], design, torch.zeros(n_chains, 1, 1).double())
    counts = repeated(y, n_chains)
    experts = PoissonRegressions(scales[1], design, counts, torch.zeros(n_chains, 2, 1).double())
    draws = gibbs(Pair(gate, experts, 2), torch.zeros(n_chains, 5, dtype=torch.long), n_draws=300)
    moments = torch.cat([values, values.square()], -1)
    assert_mean(torch.cat([draws, draws.square()], -1), posterior @ moments)


def test_most_proposals_are_accepted() -> None:
    """So that the moves of the benchmarks are nearly independent draws."""
    x = torch.randn(50, 100, 1).double()
    design = torch.cat([torch.ones_like(x), x], -1)
    c = torch.tensor([[0.5, 0.5], [1.0, -0.5]]).double().expand(50, 2, 2)
    z = torch.randint(2, (50, 100))
    y = Poisson((c[torch.arange(50).unsqueeze(-1), z] * design).sum(-1).exp()).sample()
    r = torch.nn.functional.one_hot(z, 2).double().mT
    generator = Generator().manual_seed(0)
    poisson = PoissonRegressions(5.0, design, y, c)
    softmax = SoftmaxWeights(5.0, design, torch.zeros(50, 1, 2).double())
    for sampler in (poisson, softmax):
        expansion = functools.partial(sampler.expansion, r=r)
        state, _ = moved(sampler.start, sampler.start, expansion, generator)
        _, accepted = moved(state, sampler.start, expansion, generator)
        assert float(accepted.double().mean()) > 0.7


def test_components_in_another_order() -> None:
    design = torch.ones(1, 4, 2).double()
    gate = SoftmaxWeights(1.0, design, torch.zeros(1, 2, 2).double())
    experts = Lines(repeated_prior(LINES, 1), design, torch.zeros(1, 4).double())
    lines = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).double()
    noises, logits = (
        torch.tensor([7.0, 8.0, 9.0]).double(),
        torch.tensor([[0.0, 0.0], [1.0, -1.0], [3.0, 2.0]]).double(),
    )
    draw = torch.cat([lines.flatten(), noises, logits[1:].flatten()]).expand(2, 1, -1)
    order = [2, 0, 1]
    moved_logits = logits[order] - logits[2]
    expected = torch.cat([lines[order].flatten(), noises[order], moved_logits[1:].flatten()])
    pair = Pair(gate, experts, K)
    found = pair.permuted(draw, order)
    torch.testing.assert_close(found[1, 0], expected)
    mixed = torch.cat([draw[:1], found[:1]])
    back = pair.aligned(mixed, draw[0], torch.ones_like(draw[0]))
    torch.testing.assert_close(back, draw)
