"""Small data on which fits are hard: all that a fit says of its own rows is finite, and its bound never falls."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    SoftmaxGate,
    criteria,
    fit,
)
from mixpyro.experts.base import Experts
from mixpyro.experts.families import (
    Binomial,
    Categorical,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroTruncatedPoisson,
)
from mixpyro.fitting.stopping import least_tolerance
from mixpyro.gates.base import Gate

K, N = 3, 24
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "softmax": lambda: SoftmaxGate(K, 1, prior_scale=1.0),
    "bayesian": lambda: BayesianSoftmaxGate(K, 1),
    "objects": lambda: MarginalObjectDirichletGate(K),
}
# Experts, and the least and the largest y that their family has.
EXPERTS: dict[str, tuple[Callable[[], Experts], float, float]] = {
    "linear": (lambda: LinearExperts(K, 1), -math.inf, math.inf),
    "gaussian": (lambda: GaussianExperts(K, 1), -math.inf, math.inf),
    "Gaussian": (lambda: GLMExperts(K, 1, Gaussian()), -math.inf, math.inf),
    "StudentT": (lambda: GLMExperts(K, 1, StudentT()), -math.inf, math.inf),
    "Poisson": (lambda: GLMExperts(K, 1, Poisson()), 0.0, math.inf),
    "NegativeBinomial": (lambda: GLMExperts(K, 1, NegativeBinomial()), 0.0, math.inf),
    "ZeroTruncatedPoisson": (lambda: GLMExperts(K, 1, ZeroTruncatedPoisson()), 1.0, math.inf),
    "Binomial": (lambda: GLMExperts(K, 1, Binomial()), 0.0, 1.0),
    "Categorical": (lambda: GLMExperts(K, 1, Categorical(3)), 0.0, 2.0),
}
# All experts with one gate, and all gates with one family.
PAIRS = [("dirichlet", name) for name in EXPERTS] + [(name, "Poisson") for name in GATES if name != "dirichlet"]
CASES = [(*pair, torch.float64) for pair in PAIRS]
CASES += [("dirichlet", name, torch.float32) for name in ("linear", "Poisson", "Binomial")]


def nasty(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """x and counts y, by what is nasty of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 1, generator=generator).double()
    y = torch.poisson(x.exp(), generator=generator)
    huge, far = y.clone(), x.clone()
    huge[:2] = torch.tensor([[1e6], [1e9]], dtype=torch.float64)
    far[0] = 1e8
    found = {
        "zeros": (x, 0.0 * y),
        "huge counts": (x, huge),
        "duplicates": (x[:3].repeat(8, 1), y[:3].repeat(8, 1)),
        "constant x": (0.0 * x + 1.0, y),
        "outlying x": (far, y),
        "one row": (x[:1], y[:1]),
    }
    return {name: (one.to(dtype), other.to(dtype)) for name, (one, other) in found.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("gate", "experts", "dtype"), CASES)
def test_all_that_is_said_of_nasty_data_is_finite(gate: str, experts: str, dtype: torch.dtype) -> None:
    make, least, largest = EXPERTS[experts]
    for name, (x, counts) in nasty(dtype).items():
        if gate != "dirichlet" and name not in ("zeros", "outlying x", "one row"):
            continue
        mixture = MixtureOfExperts(GATES[gate](), make()).to(dtype)
        y = counts.clamp(least, largest)
        result = fit(mixture, x, y, n_restarts=1, n_candidates=1, max_iterations=12)
        for number in (mixture.log_prob(x, y), mixture.predict(x), result.responsibilities):
            assert bool(number.isfinite().all()), name
        # Where a noise has collapsed, as the result says, rounding errors of the bound are as large as the bound.
        assert result.degeneracies or all(math.isfinite(number) for number in criteria(result)[:7]), name
        for before, after in itertools.pairwise(result.runs[0].trace):
            assert after >= before - 1e-6 - 10.0 * least_tolerance(N * 1e2 + 2.0 * abs(before), dtype), name
