"""What predictive distributions of all experts do with values and shapes of draws that do not fit."""

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import MixtureOfExperts, experts, gates
from mixpyro.distributions.censored_normal import CensoredNormal
from mixpyro.distributions.multinomial import PreciseMultinomial
from mixpyro.distributions.negative_binomial import PreciseNegativeBinomial
from mixpyro.distributions.zero_truncated_poisson import ZeroTruncatedPoisson
from tests.fuzz.made import EXPERTS, Size, rows

NAN = float("nan")
COUNTS = ("poisson", "poisson, exposure", "truncated", "negative binomial", "binomial", "categorical", "multinomial")


def predictives(bank: str) -> list[tuple[TorchDistributionMixin, Tensor]]:
    """Return the predictive distributions of a mixture and of its experts, each with a value that fits."""
    x, y = rows(bank, Size(2, 2, 6), seed=3)
    bank_of = EXPERTS[bank](2, 2, torch.float64)
    mixture = MixtureOfExperts(gates.DirichletGate(2), bank_of)
    y = y.reshape(6, -1)
    return [(mixture.predictive(x), y), (bank_of.predictive(x), y.unsqueeze(1))]


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("bank", EXPERTS)
def test_values_that_do_not_fit_are_refused_by_name(bank: str) -> None:
    for distribution, y in predictives(bank):
        for value in (None, "a", y.tolist(), y.numpy(), y.to_sparse(), y.to("meta"), y.to(torch.complex128)):
            with pytest.raises(TypeError, match="`value` must "):
                distribution.log_prob(value)
        for value in (torch.tensor(1.0), y[:3], torch.cat([y, y, y], -1), y[..., :0]):
            with pytest.raises(ValueError, match="`value` must have "):
                distribution.log_prob(value)
        for value in [y * NAN, -y.abs() - 0.5] if bank in COUNTS else [y * NAN]:
            with pytest.raises(ValueError, match=r"`value` must be (whole )?numbers.*; got "):
                distribution.log_prob(value)
        found = distribution.log_prob(y)
        assert bool(found.isfinite().any()) and not bool(found.isnan().any())


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("bank", EXPERTS)
def test_shapes_of_draws_that_do_not_fit_are_refused_by_name(bank: str) -> None:
    for distribution, _ in predictives(bank):
        for shape in (3, None, True, "a", (2.5,), np.int64(3)):
            with pytest.raises(TypeError, match="`sample_shape` must be a sequence of integers"):
                distribution.sample(shape)
        with pytest.raises(ValueError, match="`sample_shape` must have sizes from 0 on"):
            distribution.sample((-1,))
        whole = (*distribution.batch_shape, *distribution.event_shape)
        assert distribution.sample((0, 2)).shape == (0, 2, *whole)
        assert distribution.sample([2]).shape == (2, *whole)


@pytest.mark.parametrize("bank", ["linear", "poisson", "negative binomial", "categorical"])
def test_a_distribution_made_without_validation_checks_nothing(bank: str) -> None:
    with pyro.validation_enabled(False):
        distribution, y = predictives(bank)[1]
        # As in Pyro, outputs broadcast.
        assert distribution.log_prob(torch.cat([y, y], -1)).shape == (6, 2)


@pytest.mark.parametrize("bank", ["linear", "poisson", "gaussian", "multinomial", "censored", "inflated"])
def test_expanding_keeps_the_density_and_the_checks(bank: str) -> None:
    distribution, y = predictives(bank)[1]
    wider = distribution.expand((3, 6, 2))
    assert torch.equal(wider.log_prob(y), distribution.log_prob(y).expand(3, 6, 2))
    with pytest.raises(ValueError, match="`value` must have a shape"):
        wider.log_prob(y[:3])


def test_lower_limits_above_the_upper_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="`value` must have lower limits that are not above the upper ones"):
        CensoredNormal(torch.zeros(2), torch.ones(2)).log_prob(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))


@pytest.mark.parametrize(
    "made",
    [
        lambda bad: CensoredNormal(bad, torch.ones(2)),
        lambda bad: PreciseMultinomial(torch.ones(1), bad.unsqueeze(0)),
        lambda bad: PreciseNegativeBinomial(bad, torch.ones(2)),
        lambda bad: ZeroTruncatedPoisson(bad),
    ],
)
def test_parameters_that_are_no_numbers_are_refused(made) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(ValueError, match="Expected parameter"):
        made(torch.tensor([0.0, NAN]))


def test_booleans_are_zeros_and_ones() -> None:
    x = torch.zeros(3, 1, dtype=torch.float64)
    distribution = experts.GLMExperts(1, 1, experts.families.Gaussian()).double().predictive(x)
    y = torch.tensor([[[True]], [[False]], [[True]]])
    assert torch.equal(distribution.log_prob(y), distribution.log_prob(y.double()))


@pytest.mark.usefixtures("bad_arguments")
def test_shapes_of_draws_that_look_like_sequences_of_integers_are_refused() -> None:
    distribution, _ = predictives("linear")[0]
    for shape in (b"odd", {1, 2}, {2: 3}):
        with pytest.raises(TypeError, match="`sample_shape` must be a sequence of integers"):
            distribution.sample(shape)
    with pytest.raises(ValueError, match="`sample_shape` must be of at most"):
        distribution.sample((2**40, 2**40))


@pytest.mark.parametrize("bank", ["glm", "poisson", "multinomial", "censored", "outputs"])
def test_values_of_inference_mode_have_densities_with_derivatives(bank: str) -> None:
    for distribution, y in predictives(bank):
        with torch.inference_mode():
            value = y.clone()
        assert torch.equal(distribution.log_prob(value), distribution.log_prob(y))
