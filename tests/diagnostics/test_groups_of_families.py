"""Reports of groups for experts whose components share parameters, have several banks, or are at a limit."""

from typing import Any

import numpy as np
import pytest
import torch

from mixpyro import (
    DirichletGate,
    GLMExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MixtureOfExperts,
    SharedLinearExperts,
    fit,
    to_arviz,
)
from mixpyro.diagnostics import exact_loo
from mixpyro.diagnostics.left_out import log_prob_of_group
from mixpyro.experts.base import Experts
from mixpyro.experts.families import NegativeBinomial, StudentT
from tests.grouped_fits import problem

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
QUICK: dict[str, Any] = {"n_restarts": 1, "max_iterations": 20, "progress": False}


def test_loo_of_groups_with_a_shared_slope() -> None:
    own = problem(n_groups=6)
    mixture = MixtureOfExperts(DirichletGate(2), SharedLinearExperts(2, 1, shared=[0]))
    result = fit(mixture, own.x, own.y, groups=own.ids, **QUICK)
    found = exact_loo(result, own.x, own.y, progress=False)
    assert found.pointwise.shape == (6,)
    assert np.isfinite(found.pointwise).all()


def test_rows_of_a_new_group_share_the_parameters_of_each_bank() -> None:
    """With one component the density of two outcomes is the product of those of the banks by themselves."""
    own = problem(n_groups=6)
    y = torch.cat([own.y, own.y.flip(0)], 1)
    both = MixtureOfExperts(DirichletGate(1), HeterogeneousOutputs([LinearExperts(1, 1), LinearExperts(1, 1)]))
    fit(both, own.x, y, groups=own.ids, **QUICK)
    expected = 0.0
    for column in range(2):
        alone = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
        fit(alone, own.x, y[:, column], groups=own.ids, **QUICK)
        expected += log_prob_of_group(alone, own.x[:4], y[:4, column : column + 1], None)
    assert log_prob_of_group(both, own.x[:4], y[:4], None) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("experts", "counts"),
    [(GLMExperts(1, 1, NegativeBinomial()), True), (GLMExperts(1, 1, StudentT()), False)],
    ids=["negative binomial", "student"],
)
def test_scales_at_a_limit_are_not_drawn(experts: Experts, counts: bool) -> None:
    """Counts with less spread than Poisson's, and noise with shorter tails than the Normal's."""
    own = problem()
    noise = torch.cos(9.0 * torch.arange(len(own.x))).double().unsqueeze(1)
    y = torch.full_like(own.y, 3.0) + (torch.arange(len(own.x)) % 2).unsqueeze(1) if counts else own.x + noise
    result = fit(MixtureOfExperts(DirichletGate(1), experts), own.x, y, groups=own.ids, **QUICK)
    data = to_arviz(result, own.x, y, n_draws=30, progress=False)
    assert "determine every scale" in str(data["posterior"].attrs.get("no_linear_response", "")) + str(data.attrs)
    assert np.isfinite(data["sample_stats"]["lp"].values).all()
