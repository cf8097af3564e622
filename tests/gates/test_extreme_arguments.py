"""Arguments of gates that a number can hold, and a bound cannot."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.distributions import Gamma

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
)
from tests.problems import lines

SCALED: dict[str, Callable[..., Any]] = {
    "BayesianSoftmaxGate": lambda **given: BayesianSoftmaxGate(3, 1, **given),
    "TreeGate": lambda **given: TreeGate(3, 1, **given),
}
PARTS: dict[str, Callable[..., Any]] = {
    **SCALED,
    "StickBreakingGate": lambda **given: StickBreakingGate(3, **given),
    "DirichletGate": lambda **given: DirichletGate(3, **given),
    "ObjectDirichletGate": lambda **given: ObjectDirichletGate(3, **given),
    "SoftmaxGate": lambda **given: SoftmaxGate(3, 1, **given),
    "LinearExperts": lambda **given: LinearExperts(3, 1, **given),
    "GaussianExperts": lambda **given: GaussianExperts(3, 1, **given),
}


@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e20, 1e200])
def test_scales_beyond_precision_are_refused(make: Callable[..., Any], scale: float) -> None:
    with pytest.raises(ValueError, match=r"`prior_scale` must be from 1e-10 to 1e\+10; got .*standardise x"):
        make(prior_scale=scale)
    assert make(prior_scale=1e-10).prior_scale == 1e-10
    assert math.isfinite(make(prior_scale=1e10).kl_divergence())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
def test_columns_too_far_from_zero_for_their_spread_are_refused(make: Callable[..., Any]) -> None:
    x, y, _ = lines(30, 2)
    mixture = MixtureOfExperts(make(), LinearExperts(3, 1))
    with pytest.raises(ValueError, match=r"`x` must have columns within 1e\+07 of their .*in column 0.*Subtract"):
        fit(mixture, x, y, gate_x=x + 1e9, n_restarts=1)
    constant = torch.full_like(x, 1e9)
    result = fit(mixture, x, y, gate_x=constant, n_restarts=1, max_iterations=3, progress=False)
    assert math.isfinite(result.bound)


@pytest.mark.parametrize("value", [1e16, 1e300, Gamma(torch.tensor(1.0), torch.tensor(1e-30))])
def test_concentrations_beyond_precision_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"`concentration` must be at most 1e\+10, and so must its mean; got "):
        StickBreakingGate(3, concentration=value)  # type: ignore[arg-type]


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("bad", ["float", torch.int64, torch.float16, None])
def test_other_dtypes_are_refused(make: Callable[..., Any], bad: object) -> None:
    with pytest.raises(TypeError, match=r"`dtype` must be a floating dtype; got .*Use torch.float32 or"):
        make(dtype=bad)
