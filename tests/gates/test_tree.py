"""Trees of logistic regressions: formulas against plain ones, exact posteriors, and what a tree is."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import logsigmoid

from mixpyro.gates import BayesianSoftmaxGate, Gate, TreeGate
from mixpyro.numerics import nested, tree_automorphisms, trees
from mixpyro.numerics.trees import Tree
from tests.gates.bayesian_contract import BayesianLogitContract
from tests.gates.contract import K
from tests.problems import inputs, responsibilities

TREES: list[Tree] = [(0, 1), ((0, 1), 2), (1, (2, 0)), ((0, 2), (3, 1)), (0, (1, (2, 3)))]


class TestTreeGate(BayesianLogitContract):
    """The contract, for the balanced tree."""

    sizes = "tree"

    def make(self, n_components: int = K) -> Gate:
        return TreeGate(n_components, 2)


class TestStickBreakingWithInputs(BayesianLogitContract):
    """The contract, for a leaf on the left of every node, in an order of its own."""

    sizes = "tree"

    def make(self, n_components: int = K) -> Gate:
        return TreeGate((2, (0, 1)) if n_components == K else n_components, 2)


def learnt(tree: Tree, n_objects: int = 40, **options: Any) -> tuple[TreeGate, Tensor, Tensor]:
    """A gate at its optimum, with the rows [N, 2] and responsibilities [N, K]."""
    gate = TreeGate(tree, 2, **options)
    x, r = inputs(n_objects), responsibilities(n_objects, gate.n_components)
    gate.maximise(x, r)
    return gate, x, r


def expectation(function: Any, mean: float, deviation: float) -> float:
    """E f(η) for η ~ Normal(m, s²), by adaptive quadrature."""
    value, _ = quad(lambda t: function(mean + deviation * t) * norm.pdf(t), -12, 12, epsabs=1e-13, limit=200)
    return float(value)


@pytest.mark.parametrize("tree", TREES)
def test_the_bound_is_the_plain_sum_over_nodes(tree: Tree) -> None:
    """Σᵥ {Σᵢ [ℓᵢᵥ mᵢᵥ − bᵢᵥ E softplus(ηᵢᵥ)] − KL(q(βᵥ) ‖ p)}, with loops, adaptive quadrature and Pyro's KL."""
    gate, x, r = learnt(tree, n_objects=7)
    u = torch.cat([torch.ones(7, 1).double(), x], dim=1)
    total = 0.0
    for number, node in enumerate(trees.nodes_of(tree)):
        left, right = trees.leaves_of(node.left), trees.leaves_of(node.right)
        mean, covariance = gate.coefficients[number], gate.covariance[number]
        for row, shares in zip(u, r, strict=True):
            m, s = float(row @ mean), math.sqrt(float(row @ covariance @ row))
            softplus = expectation(lambda eta: np.logaddexp(0.0, eta), m, s)
            total += float(shares[left].sum()) * m - float(shares[left + right].sum()) * softplus
        origin = torch.zeros(3).double()
        origin[0] = math.log(len(left) / len(right))
        q = torch.distributions.MultivariateNormal(mean, covariance)
        p = torch.distributions.MultivariateNormal(origin, 2.0 * 2.0**2 * torch.eye(3).double())
        total -= float(torch.distributions.kl_divergence(q, p))
    assert float(gate.partial_bound(x, r)) == pytest.approx(total, abs=1e-7)


@pytest.mark.parametrize("tree", TREES)
def test_predictive_weights_are_products_of_expectations(tree: Tree) -> None:
    gate, x, _ = learnt(tree, n_objects=5)
    u = torch.cat([torch.ones(5, 1).double(), x], dim=1)
    expected = torch.ones(5, gate.n_components).double()
    for number, node in enumerate(trees.nodes_of(tree)):
        for i, row in enumerate(u):
            m = float(row @ gate.coefficients[number])
            p = expectation(
                lambda eta: 1.0 / (1.0 + np.exp(-eta)), m, float(row @ gate.covariance[number] @ row) ** 0.5
            )
            expected[i, trees.leaves_of(node.left)] *= p
            expected[i, trees.leaves_of(node.right)] *= 1.0 - p
    torch.testing.assert_close(gate.weights(x), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("tree", TREES)
def test_the_posterior_is_where_the_bound_is_flat(tree: Tree) -> None:
    """By autograd of the bound in mean and precision, which knows nothing of the update."""
    gate, x, r = learnt(tree)
    leaves = [value.clone().requires_grad_() for value in gate.posterior]
    gate.hold_posterior(type(gate.posterior)(*leaves))
    for gradient in torch.autograd.grad(gate.partial_bound(x, r), leaves):
        assert float(gradient.abs().max()) < 1e-3


@pytest.mark.parametrize("tree", [(0, 1), (1, 0)])
def test_two_components_have_the_posterior_of_the_bayesian_softmax(tree: Tree) -> None:
    """Log odds of left against right are those of component 1 against 0, or minus these."""
    gate, x, r = learnt(tree, prior_scale=1.7)
    softmax = BayesianSoftmaxGate(2, 2, prior_scale=1.7)
    softmax.maximise(x, r)
    sign = 1.0 if tree[0] == 1 else -1.0  # type: ignore[index]
    torch.testing.assert_close(sign * gate.coefficients, softmax.coefficients, rtol=0, atol=1e-6)
    torch.testing.assert_close(gate.covariance.squeeze(0), softmax.covariance, rtol=0, atol=1e-6)
    torch.testing.assert_close(gate.partial_bound(x, r), softmax.partial_bound(x, r), rtol=0, atol=1e-6)
    torch.testing.assert_close(gate.weights(x), softmax.weights(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_steps_never_lower_the_bound(scale: float) -> None:
    """From the prior to the optimum, on rows that each node all but separates; within 15 steps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    logits = scale * torch.cat([torch.zeros(60, 1).double(), x], dim=1)
    r = torch.nn.functional.one_hot(logits.argmax(-1), 3).double()
    gate = TreeGate(((0, 1), 2), 2)
    bounds = []
    for _ in range(15):
        gate.maximise(x, r, n_steps=1)
        bounds.append(float(gate.partial_bound(x, r)))
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(bounds))
    gate.maximise(x, r)
    assert float(gate.partial_bound(x, r)) == pytest.approx(bounds[-1], abs=1e-5)


def jaakkola_jordan(u: Tensor, left: Tensor, prior: Tensor) -> float:
    """The Pólya-Gamma bound of one node, by its own iterations: E[ω] = tanh(c/2) / (2c)."""
    mean, precision = torch.zeros(u.shape[1]).double(), prior
    for _ in range(3000):
        covariance = torch.linalg.inv(precision)
        c = ((u @ mean).square() + ((u @ covariance) * u).sum(-1)).sqrt()
        precision = prior + u.T @ ((torch.tanh(c / 2) / (2 * c)).unsqueeze(1) * u)
        mean = torch.linalg.solve(precision, u.T @ (left - 0.5))
    covariance = torch.linalg.inv(precision)
    c = ((u @ mean).square() + ((u @ covariance) * u).sum(-1)).sqrt()
    q = torch.distributions.MultivariateNormal(mean, covariance)
    p = torch.distributions.MultivariateNormal(torch.zeros_like(mean), precision_matrix=prior)
    fit = ((left - 0.5) * (u @ mean) - torch.log(2 * torch.cosh(c / 2))).sum()
    return float(fit - torch.distributions.kl_divergence(q, p))


@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_the_bound_is_between_that_of_polya_gamma_and_the_evidence(slope: float) -> None:
    """Of two components: the evidence by a grid of intercepts and slopes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    left = (torch.rand(50, generator=generator) < torch.sigmoid(slope * x[:, 0])).double()
    gate = TreeGate((0, 1), 1, prior_scale=5.0)
    gate.maximise(x, torch.stack([left, 1 - left], dim=1))
    found = float(gate.partial_bound(x, torch.stack([left, 1 - left], dim=1)))
    u = torch.cat([torch.ones_like(x), x], dim=1)
    a, b = torch.linspace(-15, 15, 801).double(), torch.linspace(-25, 45, 1401).double()
    grid = torch.cartesian_prod(a, b)
    log_prior = torch.distributions.Normal(0.0, math.sqrt(50.0)).log_prob(grid).sum(-1)
    log_joint = sum(
        (logsigmoid((2 * side - 1) * (grid @ row)) for side, row in zip(left, u, strict=True)), start=log_prior
    )
    evidence = float(log_joint.logsumexp(0)) + math.log(float((a[1] - a[0]) * (b[1] - b[0])))
    assert jaakkola_jordan(u, left, torch.eye(2).double() / 50.0) < found - 0.1
    assert evidence - 0.15 < found < evidence


@pytest.mark.parametrize(("tree", "n_objects", "seed"), [(((0, 1), 2), 100, 0), ((0, (1, (2, 3))), 300, 1)])
def test_moments_are_those_of_the_exact_posterior(tree: Tree, n_objects: int, seed: int) -> None:
    """Given assignments, by importance sampling from a wider Student distribution for every node."""
    generator = torch.Generator().manual_seed(seed)
    truth = TreeGate(tree, 2)
    x = torch.randn(n_objects, 2, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(truth.n_components - 1, 3, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(truth.log_weights_at(x, coefficients).exp(), 1, generator=generator).squeeze(1)
    r = torch.nn.functional.one_hot(labels, truth.n_components).double()
    truth.maximise(x, r)
    u = torch.cat([torch.ones(n_objects, 1).double(), x], dim=1)
    branches = trees.branches_of(tree)
    for number in range(truth.n_components - 1):
        q = torch.distributions.MultivariateNormal(truth.coefficients[number], truth.covariance[number])
        chi = torch.distributions.Chi2(torch.tensor(6.0).double())
        torch.manual_seed(seed)
        draws = q.mean + (q.sample((40_000,)) - q.mean) / (chi.sample((40_000, 1)) / 6.0).sqrt()
        proposal = torch.distributions.MultivariateNormal(q.mean, q.covariance_matrix)
        distance = ((draws - q.mean) @ torch.linalg.inv(q.covariance_matrix) * (draws - q.mean)).sum(-1)
        log_proposal = proposal.log_prob(q.mean) - 0.5 * 9.0 * torch.log1p(distance / 6.0)
        prior = torch.distributions.MultivariateNormal(
            truth.prior.mean[number], precision_matrix=truth.prior.precision[0]
        )
        predictors = draws @ u.T
        left, right = r @ branches.left[number], r @ branches.right[number]
        log_joint = prior.log_prob(draws) + logsigmoid(predictors) @ left + logsigmoid(-predictors) @ right
        weights = (log_joint - log_proposal).softmax(0).unsqueeze(1)
        assert 1.0 / float(weights.square().sum()) > 10_000
        mean = (weights * draws).sum(0)
        deviation = (weights * (draws - mean).square()).sum(0).sqrt()
        own = truth.covariance[number].diagonal().sqrt()
        assert float(((truth.coefficients[number] - mean) / deviation).abs().max()) < 0.05
        assert 0.9 < float((own / deviation).min()) and float((own / deviation).max()) < 1.1


@pytest.mark.parametrize("tree", [((0, 1), 2), (0, (1, (3, 2))), ((0, 2), (3, 1)), (((0, 1), 2), (3, (5, 4)))])
def test_relabelling_within_the_tree_changes_nothing_but_labels(tree: Tree) -> None:
    """The bound and the weights at permuted responsibilities, for every relabelling, and not for another order."""
    gate, x, r = learnt(tree)
    bound, weights = gate.partial_bound(x, r), gate.weights(x)
    for order, *_ in tree_automorphisms.automorphisms(tree):
        other = TreeGate(tree, 2)
        other.maximise(x, r[:, list(order)])
        torch.testing.assert_close(other.partial_bound(x, r[:, list(order)]), bound, rtol=0, atol=1e-7)
        torch.testing.assert_close(other.weights(x), weights[:, list(order)], rtol=0, atol=1e-5)
        moved = gate.relabelled(gate.coefficients, order)
        torch.testing.assert_close(other.coefficients, moved, rtol=0, atol=1e-4)
    swapped = (
        r[:, [1, 0, *range(2, gate.n_components)]]
        if tree == (0, (1, (3, 2)))
        else r[:, [0, 2, 1, *range(3, gate.n_components)]]
    )
    other.maximise(x, swapped)
    assert abs(float(other.partial_bound(x, swapped) - bound)) > 1e-3


def test_sums_of_runs_are_those_of_each() -> None:
    """Leading axes of runs, each expanded about its own posterior."""
    gate = TreeGate(((0, 1), 2), 2)
    x = inputs(30)
    r = torch.stack([responsibilities(30, 3, seed=seed).mT for seed in range(3)])
    posteriors = []
    for run in r:
        gate.forget()
        gate.maximise(x, run.mT, n_steps=1)
        posteriors.append(gate.posterior)
    together = gate.statistics_of(x, r.mT, posterior=nested.stack(posteriors))
    for number, (run, posterior) in enumerate(zip(r, posteriors, strict=True)):
        alone = gate.statistics_of(x, run.mT, posterior=posterior)
        for all_, one in zip(together, alone, strict=True):
            torch.testing.assert_close(all_[number], one)


def test_the_prior_weights_of_components_are_equal() -> None:
    for tree in TREES:
        gate = TreeGate(tree, 2)
        at_mean = gate.log_weights_at(torch.zeros(1, 2).double(), gate.prior.mean).exp()
        torch.testing.assert_close(at_mean, torch.full_like(at_mean, 1.0 / gate.n_components))
    stick = TreeGate((0, (1, (2, 3))), 0)
    torch.testing.assert_close(stick.prior.mean[:, 0], -torch.tensor([3.0, 2.0, 1.0]).double().log())


def test_names_say_what_a_node_parts() -> None:
    gate = TreeGate(((0, 1), 2), 1)
    assert gate.coefficient_names(["age"]) == [
        "components 0, 1 against 2, intercept",
        "components 0, 1 against 2, age",
        "component 0 against 1, intercept",
        "component 0 against 1, age",
    ]


@pytest.mark.parametrize(("tree", "expected"), [(1, (0,)), (3, ((0, 1), 2)), ([[1, 0], 2], ((1, 0), 2))])
def test_a_number_is_a_balanced_tree(tree: Any, expected: Tree) -> None:
    gate = TreeGate(tree, 2)
    assert gate.tree == expected
    torch.testing.assert_close(gate.weights(inputs(3)).sum(-1), torch.ones(3).double())


@pytest.mark.parametrize(
    "make", [lambda s: TreeGate(((0, 1), 2), 2, prior_scale=s), lambda s: BayesianSoftmaxGate(3, 2, prior_scale=s)]
)
@pytest.mark.parametrize(("scale", "unit", "says_more"), [(2.0, 1.0, False), (0.05, 1.0, True), (2.0, 0.01, True)])
def test_a_prior_that_outweighs_the_data_is_named(make: Any, scale: float, unit: float, says_more: bool) -> None:
    """By its scale, or by the units of x; a node that parts few rows is not asked."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    labels = torch.where(x[:, 0] + 0.5 * torch.randn(300, generator=generator).double() < 0, 2, (x[:, 1] > 0).long())
    r = torch.nn.functional.one_hot(labels, 3).double()
    gate = make(scale)
    gate.maximise(unit * x, r)
    found = gate.prior_warnings(unit * x, r)
    assert bool(found) == says_more
    assert all("`prior_scale`" in message for message in found)
