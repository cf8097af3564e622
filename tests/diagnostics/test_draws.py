"""Draws of parameters and the log joint under them, against sums written out."""

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Dirichlet, Gamma, MultivariateNormal, Normal

from mixpyro.diagnostics.draws import Draws, draw_from_posterior, draw_from_prior, evaluate
from mixpyro.diagnostics.observations import Observations
from mixpyro.numerics import blocks
from mixpyro.numerics.random_numbers import own_random_numbers
from tests.diagnostics.fits import GATES, fitted

S = 7


ALL = slice(None)


def drawn(name: str, n_components: int = 3) -> tuple[Observations, Draws]:
    """Return a fitted mixture with its data, and draws of its posterior."""
    result, x, y = fitted(name, n_components, n_outputs=2)
    data = Observations.checked(result.mixture, x, y, None)
    return data, draw_from_posterior(data, S, objects=ALL, of_objects=True)


def summed_by_hand(data: Observations, draws: Draws) -> Tensor:
    """Return log Σₖ πᵢₖ p(yᵢ | k) [S, N] from Python loops over draws and components."""
    u = torch.cat([torch.ones(len(data.x), 1).double(), data.x], 1)
    rows = []
    for s in range(S):
        gate = data.mixture.gate
        shared = (draws.sites | gate.derived(draws.sites)).get("gate.weights")
        weights = gate.weights(data.gate_x) if shared is None or shared.ndim == 3 else shared[s].expand(len(u), -1)
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
    # The change from w to w counted from the origin is a shift, whose Jacobian is one.
    intercept = w[..., 0] + experts.x_origin * w[..., 1] - experts.y_origin
    centred = torch.stack([intercept, w[..., 1]], dim=-1)
    own = experts.prior
    prior = Gamma(own.shape.unsqueeze(-1), own.rate).log_prob(tau).sum((1, 2))
    matrix = tau[..., None, None] * own.precision.unsqueeze(1)
    prior += MultivariateNormal(own.mean, precision_matrix=matrix).log_prob(centred).sum((1, 2))
    torch.testing.assert_close(
        evaluate(data, draws.sites, S).log_prior, prior + Dirichlet(gate.prior_concentration).log_prob(weights)
    )
    q = Gamma(experts.posterior_shape.unsqueeze(-1), experts.posterior_rate).log_prob(tau).sum((1, 2))
    matrix = tau[..., None, None] * experts.posterior.precision.unsqueeze(1)
    q += MultivariateNormal(experts.centred_coefficients, precision_matrix=matrix).log_prob(centred).sum((1, 2))
    torch.testing.assert_close(draws.log_density, q + Dirichlet(gate.posterior_concentration).log_prob(weights))


def test_draws_have_the_posterior_mean() -> None:
    result, x, y = fitted("dirichlet")
    data = Observations.checked(result.mixture, x, y, None)
    with own_random_numbers(0):
        draws = draw_from_posterior(data, 4000, objects=None, of_objects=True)
    for values, mean in (
        (draws.sites["gate.weights"], result.mixture.gate.weights(x)[0]),
        (draws.sites["experts.coefficients"], result.mixture.experts.coefficients),
    ):
        error = values.std(0) / 4000**0.5
        assert ((values.mean(0) - mean).abs() < 5 * error).all()


def test_replicates_have_the_predicted_mean() -> None:
    result, x, y = fitted("neural")
    data = Observations.checked(result.mixture, x, y, None)
    draws = draw_from_posterior(data, 2000, objects=None, of_objects=True)
    replicated = evaluate(data, draws.sites, 2000, replicate=True).replicated
    assert replicated is not None
    error = replicated.std(0) / 2000**0.5
    assert ((replicated.mean(0) - result.mixture.predict(x)).abs() < 5 * error).all()


def test_weights_of_objects_are_drawn_on_request() -> None:
    result, x, y = fitted("object")
    data = Observations.checked(result.mixture, x, y, None)
    with_them, without = (draw_from_posterior(data, S, objects=ALL, of_objects=wanted) for wanted in (True, False))
    assert with_them.sites["gate.weights"].shape == (S, len(x), 2)
    assert set(without.sites) == {"experts.precision", "experts.coefficients"}
    assert set(draw_from_prior(data, S).sites) == set(without.sites)


def test_weights_of_objects_are_those_of_the_objects_named() -> None:
    result, x, y = fitted("object")
    gate, chosen = result.mixture.gate, torch.tensor([7, 3, 30])
    data = Observations.checked(result.mixture, x[chosen], y[chosen], None)
    for objects in (chosen, None):
        with own_random_numbers(0):
            weights = draw_from_posterior(data, 4000, objects=objects, of_objects=True).sites["gate.weights"]
        expected = gate.weights(x[chosen], objects=objects)
        assert ((weights.mean(0) - expected).abs() < 5 * weights.std(0) / 4000**0.5).all()


def test_the_number_of_rows_does_not_name_objects() -> None:
    """As many rows as were fitted are new objects without ``objects``, and another number is refused with it."""
    result, x, y = fitted("object")
    data = Observations.checked(result.mixture, x, y, None)
    draws = draw_from_posterior(data, 4000, objects=None, of_objects=True).sites["gate.weights"]
    assert ((draws.mean(0) - 0.5).abs() < 5 * draws.std(0) / 4000**0.5).all()
    some = Observations.checked(result.mixture, x[:7], y[:7], None)
    with pytest.raises(ValueError, match="`objects` must name one object of the last update a row, 7; got 40"):
        draw_from_posterior(some, S, objects=ALL, of_objects=True)


def test_blocks_give_the_log_likelihood_of_all_rows_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    data, draws = drawn("dirichlet")
    whole = evaluate(data, draws.sites, S)
    limits = blocks.Limits(numbers=300, least_rows=1, most_rows=17, program_factor=1)
    monkeypatch.setattr(blocks, "LIMITS", limits)
    found = torch.full((S, len(data.x)), torch.nan).double()
    slices = list(data.blocks(S))
    for some, rows in slices:
        sites = {name: values[some] for name, values in draws.sites.items()}
        found[some, rows] = evaluate(data.objects(rows), sites, some.stop - some.start).log_likelihood
    assert len(slices) > 3
    torch.testing.assert_close(found, whole.log_likelihood)


def test_handlers_around_see_no_sites() -> None:
    data, draws = drawn("neural")
    trace = poutine.trace(lambda: evaluate(data, draws.sites, S)).get_trace()
    assert set(trace.nodes) == {"_INPUT", "_RETURN"}
    assert len(pyro.get_param_store()) == 0
