"""Draws of parameters and what they say of the data, against sums written out."""

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Dirichlet, Gamma, MultivariateNormal, Normal

from mixpyro.diagnostics import draws as module
from mixpyro.diagnostics.draws import Data, Draws, draw_from_posterior, draw_from_prior, evaluate, own_random_numbers
from tests.diagnostics.fits import GATES, fitted

S = 7


def drawn(name: str, n_components: int = 3) -> tuple[Data, Draws]:
    """A fitted mixture with its data, and draws of its posterior."""
    result, x, y = fitted(name, n_components, n_outputs=2)
    data = Data.checked(result.mixture, x, y, None)
    return data, draw_from_posterior(data, S, of_objects=True)


def summed_by_hand(data: Data, draws: Draws) -> Tensor:
    """Log Σₖ πᵢₖ p(yᵢ | k) [S, N] in Python loops over draws and components."""
    u = torch.cat([torch.ones(len(data.x), 1).double(), data.x], 1)
    rows = []
    for s in range(S):
        gate = data.mixture.gate
        shared = draws.sites.get("gate.weights")
        weights = (
            gate.unseen_weights(data.gate_x) if shared is None or shared.ndim == 3 else shared[s].expand(len(u), -1)
        )
        total = torch.zeros(len(u)).double()
        for k in range(data.mixture.n_components):
            mean = u @ draws.sites["experts.coefficients"][s, k].mT
            scale = draws.sites["experts.precision"][s, k] ** -0.5
            total += weights[:, k].detach() * Normal(mean, scale).log_prob(data.y).sum(-1).exp()
        rows.append(total.log())
    return torch.stack(rows)


@pytest.mark.parametrize("name", GATES)
def test_the_log_likelihood_is_the_sum_over_components(name: str) -> None:
    data, draws = drawn(name)
    found = evaluate(data, draws.sites, S)
    torch.testing.assert_close(found.log_likelihood, summed_by_hand(data, draws), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.responsibilities.sum(-1), torch.ones(S, len(data.x)).double())


def test_densities_are_those_of_prior_and_posterior() -> None:
    data, draws = drawn("dirichlet")
    experts, gate = data.mixture.experts, data.mixture.gate
    tau, w, weights = (draws.sites[f"{name}"] for name in ("experts.precision", "experts.coefficients", "gate.weights"))
    prior = Gamma(experts.prior_shape, experts.prior_rate).log_prob(tau).sum((1, 2))
    matrix = tau[..., None, None] * experts.prior_precision
    prior += MultivariateNormal(torch.zeros(2).double(), precision_matrix=matrix).log_prob(w).sum((1, 2))
    torch.testing.assert_close(
        evaluate(data, draws.sites, S).log_prior, prior + Dirichlet(gate.prior_concentration).log_prob(weights)
    )
    q = Gamma(experts.posterior_shape.unsqueeze(-1), experts.posterior_rate).log_prob(tau).sum((1, 2))
    matrix = tau[..., None, None] * experts.posterior.precision.unsqueeze(1)
    # The same Jacobian for both: w counted from the origin is w shifted.
    intercept = w[..., 0] + experts.x_origin * w[..., 1] - experts.y_origin
    centred = torch.stack([intercept, w[..., 1]], dim=-1)
    q += MultivariateNormal(experts.centred_coefficients, precision_matrix=matrix).log_prob(centred).sum((1, 2))
    torch.testing.assert_close(draws.log_density, q + Dirichlet(gate.posterior_concentration).log_prob(weights))


def test_draws_have_the_posterior_mean() -> None:
    result, x, y = fitted("dirichlet")
    data = Data.checked(result.mixture, x, y, None)
    with own_random_numbers(x.device, 0):
        draws = draw_from_posterior(data, 4000, of_objects=True)
    for values, mean in (
        (draws.sites["gate.weights"], result.mixture.gate.weights(x)[0]),
        (draws.sites["experts.coefficients"], result.mixture.experts.coefficients),
    ):
        error = values.std(0) / 4000**0.5
        assert ((values.mean(0) - mean).abs() < 5 * error).all()


def test_replicates_have_the_predicted_mean() -> None:
    result, x, y = fitted("neural")
    data = Data.checked(result.mixture, x, y, None)
    draws = draw_from_posterior(data, 2000, of_objects=True)
    replicated = evaluate(data, draws.sites, 2000, replicate=True).replicated
    assert replicated is not None
    error = replicated.std(0) / 2000**0.5
    assert ((replicated.mean(0) - result.mixture.predict(x)).abs() < 5 * error).all()


def test_weights_of_objects_are_drawn_only_where_asked_for() -> None:
    result, x, y = fitted("object")
    data = Data.checked(result.mixture, x, y, None)
    with_them, without = (draw_from_posterior(data, S, of_objects=wanted) for wanted in (True, False))
    assert with_them.sites["gate.weights"].shape == (S, len(x), 2)
    assert set(without.sites) == {"experts.precision", "experts.coefficients"}
    assert set(draw_from_prior(data, S).sites) == set(without.sites)


def test_blocks_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data, draws = drawn("dirichlet")
    whole = evaluate(data, draws.sites, S)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 300)
    monkeypatch.setattr(module, "BLOCK_ROWS", 17)
    found = torch.full((S, len(data.x)), torch.nan).double()
    blocks = list(data.blocks(S))
    for some, rows in blocks:
        sites = {name: values[some] for name, values in draws.sites.items()}
        found[some, rows] = evaluate(data.rows(rows), sites, some.stop - some.start).log_likelihood
    assert len(blocks) > 3
    torch.testing.assert_close(found, whole.log_likelihood)


def test_the_random_state_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of devices which the data are not on: nothing puts it back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("all devices were reseeded"))
    before = torch.get_rng_state()
    with own_random_numbers(torch.device("cpu"), 3):
        first = torch.rand(1)
    with own_random_numbers(torch.device("cpu"), 3):
        assert torch.equal(torch.rand(1), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
def test_the_random_state_of_the_device_is_the_users() -> None:
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with own_random_numbers(device, 3):
            draws.append(torch.rand(2, device=device))
    assert torch.equal(*draws)
    with own_random_numbers(torch.device("cpu"), 3):
        assert torch.equal(torch.cuda.get_rng_state(device), before)
    assert torch.equal(torch.cuda.get_rng_state(device), before)


def test_a_handler_around_sees_nothing() -> None:
    data, draws = drawn("neural")
    trace = poutine.trace(lambda: evaluate(data, draws.sites, S)).get_trace()
    assert set(trace.nodes) == {"_INPUT", "_RETURN"}
    assert len(pyro.get_param_store()) == 0
