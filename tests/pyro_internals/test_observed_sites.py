"""Observed sites are scored while a program runs."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal

from mixpyro.pyro_internals.observed_sites import ObservedSites


def test_the_loss_is_minus_the_scaled_log_densities_and_has_their_gradient() -> None:
    theta = torch.tensor(0.5, requires_grad=True)
    with ObservedSites() as sites, poutine.scale(scale=3.0):
        pyro.factor("prior", -theta.square())
        pyro.sample("y", Normal(theta, 1.0), obs=torch.tensor(2.0))
    assert sites.loss == pytest.approx(3.0 * (0.25 - Normal(0.5, 1.0).log_prob(torch.tensor(2.0)).item()))
    sites.backward()
    assert theta.grad is not None
    assert theta.grad.item() == pytest.approx(3.0 * (1.0 - 1.5))


def test_a_latent_variable_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no latent variable; got the site 'z'"), ObservedSites():
        pyro.sample("z", Normal(0.0, 1.0))
