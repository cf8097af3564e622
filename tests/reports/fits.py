"""A mixture of regressions of the patents, fitted for the tests of reports."""

import functools

from torch import Tensor

from mixpyro import FitResult, GLMExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Poisson
from tests.conftest import read_table


def patents() -> tuple[Tensor, Tensor, Tensor]:
    """Return log R&D and patents, and R&D over sales for the gate."""
    x, y = read_table("patent.csv", "lgRD", "Patents")
    return x, y, read_table("patent.csv", "RDS", "Patents")[0]


@functools.cache
def patent_fit() -> FitResult:
    """Fit two gated Poisson regressions to the patents, from one start."""
    x, y, gate_x = patents()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Poisson()))
    return fit(mixture, x, y, gate_x=gate_x, n_restarts=1)
