"""The observed information against second differences, in blocks of rows, and for other rows than the fitted ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    fit,
    observed_information,
)
from mixpyro.experts.families import Gaussian
from mixpyro.numerics import blocks
from tests.problems import lines
from tests.reports.fits import patent_fit, patents


def numerical_information(mixture: MixtureOfExperts, *data: Tensor, step: float = 1e-3) -> Tensor:
    """Return minus the second differences of the log likelihood under the predictive distribution."""
    moved = copy.deepcopy(mixture)
    flat = nn.utils.parameters_to_vector(moved.parameters()).detach()
    # Units in which the likelihood has about the same curvature along each parameter.
    units = observed_information(mixture, *data[:2], gate_x=data[2]).diagonal().rsqrt()

    def log_likelihood(offset: Tensor) -> float:
        with torch.no_grad():
            nn.utils.vector_to_parameters(flat + offset * units, moved.parameters())
            return float(moved.log_prob(data[0], data[1], gate_x=data[2]).sum())

    size = len(flat)
    directions = step * torch.eye(size).double()
    found = torch.empty(size, size).double()
    for i in range(size):
        for j in range(i + 1):
            a, b = directions[i], directions[j]
            corners = log_likelihood(a + b) - log_likelihood(a - b) - log_likelihood(b - a) + log_likelihood(-a - b)
            found[i, j] = found[j, i] = -corners / (4 * step**2)
    return found / units / units.unsqueeze(-1)


@pytest.mark.parametrize("case", ["patents", "lines"])
def test_the_information_equals_second_differences(case: str) -> None:
    if case == "patents":
        (x, y, gate_x), mixture = patents(), patent_fit().mixture
    else:
        x, y, z = lines(60, 2)
        gate_x, mixture = x, MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
        fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double())
    exact = observed_information(mixture, x, y, gate_x=gate_x)
    scale = exact.diagonal().rsqrt()
    numerical = numerical_information(mixture, x, y, gate_x)
    torch.testing.assert_close(
        scale * numerical * scale.unsqueeze(-1), scale * exact * scale.unsqueeze(-1), rtol=0, atol=1e-5
    )


def test_blocks_of_rows_give_the_information_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, gate_x = patents()
    mixture = patent_fit().mixture
    whole = observed_information(mixture, x, y, gate_x=gate_x)
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(least_rows=1, most_rows=5))
    torch.testing.assert_close(observed_information(mixture, x, y, gate_x=gate_x), whole, rtol=1e-12, atol=1e-9)


def test_posteriors_alone_are_refused() -> None:
    x, y, _ = lines(20, 2)
    posteriors = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    with pytest.raises(ValueError, match="`mixture` must have estimated parameters; got posteriors alone"):
        observed_information(posteriors, x, y)


def test_other_rows_than_the_fitted_objects_are_refused() -> None:
    """A gate with a posterior of each object has none for other rows."""
    x, y, z = lines(60, 2)
    mixture = MixtureOfExperts(ObjectDirichletGate(2, concentration=20.0), GLMExperts(2, 1, Gaussian()))
    fit(mixture, x, y, initial_responsibilities=nn.functional.one_hot(z, 2).double() + 0.1)
    assert observed_information(mixture, x, y).shape == (6, 6)
    with pytest.raises(ValueError, match="`objects` must name one object of the last update a row, 40; got 60"):
        observed_information(mixture, x[:40], y[:40])
