"""The ELBO of models without latent variables beside Pyro's Trace_ELBO."""

import math
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

from mixpyro.fitting.gradient.objective_elbo import ObjectiveELBO
from tests.problems import inputs


def factor(theta: Tensor) -> None:
    """Score one factor, scaled."""
    with poutine.scale(scale=0.3):
        pyro.factor("objective", -(theta - 1.0).square().sum())


def observations(theta: Tensor) -> None:
    """Score a prior, data in a subsampled plate with a mask, and a factor."""
    pyro.sample("prior", Normal(0.0, 2.0).expand([2]).to_event(1), obs=theta)
    with pyro.plate("objects", 10, subsample=torch.arange(4)) as rows:
        mask = torch.tensor([True, True, False, True])
        pyro.sample("y", Normal(inputs(10)[rows] @ theta, 1.0).mask(mask), obs=torch.ones(4).double())
    with poutine.mask(mask=True):
        pyro.factor("rest", theta.sum())


def no_sites(theta: Tensor) -> None:
    """Score nothing."""


@pytest.mark.parametrize("model", [factor, observations, no_sites])
def test_loss_and_gradient_are_those_of_trace_elbo(model: Callable[[Tensor], None]) -> None:
    (loss, gradient), (its_loss, its_gradient) = (evaluated(elbo, model) for elbo in (ObjectiveELBO(), Trace_ELBO()))
    assert loss == pytest.approx(its_loss, abs=1e-12)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-12, atol=1e-12)
    assert isinstance(ObjectiveELBO(), ELBO)


def evaluated(elbo: ObjectiveELBO | Trace_ELBO, model: Callable[[Tensor], None]) -> tuple[float, Tensor]:
    """Return the loss and its gradient."""
    theta = torch.tensor([0.5, -0.3], dtype=torch.float64, requires_grad=True)

    def program() -> None:
        model(pyro.param("theta", theta))

    with pyro.get_param_store().scope():
        loss = elbo.loss_and_grads(program, no_guide)
        assert elbo.loss(program, no_guide) == pytest.approx(loss)
    return float(loss), torch.zeros(2) if theta.grad is None else theta.grad


def test_a_latent_variable_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no latent variable; got the site 'z'"):
        ObjectiveELBO().loss(lambda: pyro.sample("z", Normal(0.0, 1.0)), no_guide)


def test_a_loss_that_is_no_number_gives_a_warning() -> None:
    with pyro.validation_enabled(False), pytest.warns(UserWarning, match="NaN"):
        ObjectiveELBO().loss(lambda: pyro.factor("f", torch.tensor(math.nan)), no_guide)


def no_guide(*_: object) -> None:
    """Sample nothing."""
