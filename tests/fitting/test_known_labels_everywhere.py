"""Known components in minibatches, streams and the Pyro program, as in a fit."""

from typing import Any

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, SoftmaxGate, StreamingFit, fit, fit_minibatches
from tests.problems import lines

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites"),
    pytest.mark.usefixtures("without_type_checks"),
]

N = 60


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of two lines that overlap, whose numbers are not those of a fit, and which of them are known."""
    x, y, z = lines(N, 2, noise=0.8, seed=4)
    return x, y, z, torch.arange(N) % 3 == 0


def mixture(gate: str = "dirichlet") -> MixtureOfExperts:
    """A mixture of two lines."""
    own = DirichletGate(2) if gate == "dirichlet" else SoftmaxGate(2, 1, prior_scale=1.0)
    return MixtureOfExperts(own, LinearExperts(2, 1))


@pytest.mark.parametrize("gate", ["dirichlet", "softmax"])
@pytest.mark.parametrize("known_rows", ["some", "all", "none"])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_elbo_of_the_program_is_the_bound(gate: str, known_rows: str, grouped: bool) -> None:
    x, y, z, known = problem()
    ids = torch.arange(N) // 4
    if grouped:
        z, x = z[ids], x[4 * ids] if gate == "softmax" else x
    mask = {"some": known, "all": torch.ones_like(known), "none": torch.zeros_like(known)}[known_rows]
    rows: dict[str, Any] = {"observed": z, "mask": mask, **({"groups": ids} if grouped else {})}
    own = mixture(gate)
    result = fit(own, x, y, **rows, n_restarts=2, n_candidates=1, tolerance=1e-15, progress=False)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(own.model, own.guide, x, y, **rows)
    # One more update takes the noise of the parameters' draws out of the ELBO, but for what the fit had left to gain.
    assert abs(elbo - result.bound) < 1e-5


def test_a_group_of_two_components_is_refused_by_the_program() -> None:
    x, y, z, _ = problem()
    for program in (mixture().model, mixture().guide):
        with pytest.raises(ValueError, match="`observed` must have one component for a group"):
            program(x, y, observed=z, groups=torch.arange(N) // 10)


def test_minibatches_know_components() -> None:
    x, y, z, known = problem()
    for labels in (z, 1 - z):
        own = mixture()
        options: dict[str, Any] = {"batch_size": 20, "n_epochs": 3, "n_restarts": 2, "progress": False}
        result = fit_minibatches(own, x, y, observed=labels, mask=known, **options)
        certain = torch.nn.functional.one_hot(labels, 2).double()
        assert torch.equal(result.responsibilities[known], certain[known])
        assert result.observed is not None and torch.equal(result.observed[known], labels[known])
        whole = fit(mixture(), x, y, observed=labels, mask=known, n_restarts=2, progress=False)
        assert whole.bound - 1.0 < result.bound <= whole.bound + 1e-6
        torch.testing.assert_close(own.experts.coefficients, whole.mixture.experts.coefficients, atol=0.1, rtol=0.1)


def test_streams_know_components() -> None:
    x, y, z, _ = problem()
    own = mixture()
    stream = StreamingFit(own, n_restarts=2, step_size=lambda step: 1.0 / (step + 1))
    for rows in (slice(0, 30), slice(30, N)):
        stream.partial_fit(x[rows], y[rows], observed=1 - z[rows])
    # All are known, and the steps are those of an average: this is the posterior of all rows.
    counts = (1 - z).bincount(minlength=2).double()
    torch.testing.assert_close(own.gate.posterior_concentration - own.gate.prior.concentration[0], counts)
    torch.testing.assert_close(own.experts.posterior_shape - own.experts.prior_shape, 0.5 * counts)
