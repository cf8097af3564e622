"""The tilted bound on E log Σ exp η, and its quadrature, against Monte Carlo, autograd and each other."""

import pytest
import torch
from torch import Tensor

from mixpyro.numerics.softmax_quadrature import normal_nodes, softmax_quadrature
from mixpyro.numerics.tilted_softmax import tilted_softmax


def problem(n_variables: int, scale: float, n_rows: int = 5) -> tuple[Tensor, Tensor]:
    """Means [Q, N] and covariances [Q, Q, N]."""
    torch.manual_seed(n_variables)
    root = scale * torch.randn(n_rows, n_variables, n_variables).double() / n_variables**0.5
    return torch.randn(n_variables, n_rows).double(), (root @ root.mT).movedim(0, -1).contiguous()


def simulated(mean: Tensor, covariance: Tensor) -> Tensor:
    """E log(1 + Σ exp η) [N] by 400,000 draws."""
    roots = torch.linalg.cholesky(covariance.movedim(-1, 0))
    z = torch.randn(200_000, len(mean)).double()
    draws = torch.einsum("nqp,sp->nsq", roots, torch.cat([z, -z])) + mean.mT.unsqueeze(1)
    return torch.cat([torch.zeros_like(draws[..., :1]), draws], -1).logsumexp(-1).mean(-1)


@pytest.mark.parametrize("n_variables", [2, 3, 4, 6])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_quadrature_is_the_expectation_and_the_tilted_form_a_bound_on_it(n_variables: int, scale: float) -> None:
    mean, covariance = problem(n_variables, scale)
    exact, quadrature = simulated(mean, covariance), softmax_quadrature(mean, covariance)
    torch.testing.assert_close(quadrature.value, exact, rtol=0, atol=3e-3)
    excess = tilted_softmax(mean, covariance).value - exact
    assert excess.min() > -2e-3
    assert excess.max() < 0.15 * scale**4 * n_variables


@pytest.mark.parametrize("n_variables", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.3, 2.0, 6.0])
def test_derivatives_of_the_tilted_bound_are_autograds(n_variables: int, scale: float) -> None:
    mean, covariance = (part.requires_grad_() for part in problem(n_variables, scale))
    found = tilted_softmax(mean, covariance)
    by_mean, by_covariance = torch.autograd.grad(found.value.sum(), [mean, covariance])
    torch.testing.assert_close(found.probabilities, by_mean, rtol=1e-6, atol=1e-8)
    symmetric = by_covariance + by_covariance.transpose(0, 1)
    torch.testing.assert_close(found.curvature, symmetric, rtol=1e-6, atol=1e-7)
    assert torch.linalg.eigvalsh(found.curvature.detach().movedim(-1, 0)).min() > -1e-12


def test_second_derivatives_follow_the_fixed_point() -> None:
    mean, covariance = problem(3, 1.0, n_rows=2)
    assert torch.autograd.gradgradcheck(
        lambda m, root: tilted_softmax(m, torch.einsum("qpn,rpn->qrn", root, root)).value,
        (mean.requires_grad_(), torch.linalg.cholesky(covariance.movedim(-1, 0)).movedim(0, -1).requires_grad_()),
        atol=1e-4,
        rtol=1e-3,
    )


def test_the_fixed_point_is_found_for_any_variance() -> None:
    mean, covariance = problem(4, 10.0, n_rows=50)
    found = tilted_softmax(mean, covariance)
    at_optimum = (found.probabilities.unsqueeze(0) * found.probabilities.unsqueeze(1)).neg()
    at_optimum.diagonal(dim1=0, dim2=1).add_(found.probabilities.mT)
    torch.testing.assert_close(found.curvature, at_optimum, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", [tilted_softmax, softmax_quadrature])
def test_the_reference_may_be_any_class(form: object) -> None:
    """The bound moves with the scores when another class is the reference."""
    mean, covariance = problem(2, 1.0)
    change = torch.tensor([[-1.0, 0.0], [-1.0, 1.0]]).double()
    moved = torch.einsum("pq,qrn,sr->psn", change, covariance, change)
    here, there = form(mean, covariance), form(change @ mean, moved)  # type: ignore[operator]
    precision = 1e-9 if form is tilted_softmax else 1e-4
    torch.testing.assert_close(here.value - mean[0], there.value, rtol=0, atol=precision)


@pytest.mark.parametrize("n_variables", [2, 3, 4, 5, 9])
def test_nodes_have_the_moments_of_standard_normals(n_variables: int) -> None:
    nodes, weights = normal_nodes(n_variables)
    second = (weights.unsqueeze(-1) * nodes).mT @ nodes
    torch.testing.assert_close(second, torch.eye(n_variables).double(), rtol=0, atol=1e-6)
    assert (weights @ nodes).abs().max() < 1e-10
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-9)
