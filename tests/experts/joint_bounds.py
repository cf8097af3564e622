"""The bound of a gate and experts by Pyro, and in closed form."""

import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import DirichletGate, MixtureOfExperts
from mixpyro.experts import Experts
from tests.problems import in_plate


def assert_joint_elbo_equals_the_closed_form(experts: Experts, x: Tensor, y: Tensor, r: Tensor) -> None:
    """Compare one evaluation of Pyro's ELBO of updated experts and a Dirichlet gate, q(z) = r, with the formula."""
    mixture = MixtureOfExperts(DirichletGate(r.shape[1], concentration=0.5), experts)
    mixture.gate.update(mixture.gate.statistics(x, r))

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=r)

    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, guide, x, y)
    closed = (r * mixture.expected_log_joint(x, y)).sum() - torch.xlogy(r, r).sum() - mixture.kl_divergence()
    assert abs(elbo - closed.item()) < 1e-10
