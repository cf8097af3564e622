"""Streams whose first batch sends estimates to a limit, where a likelihood is flat."""

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import GLMExperts, MixtureOfExperts, SoftmaxGate, StreamingFit
from mixpyro.experts.families import Binomial, Gaussian, NegativeBinomial

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.usefixtures("without_type_checks"),
]

N_BATCHES, N_ROWS = 20, 100


def batches(seed: int = 1) -> list[Tensor]:
    """Return one regressor of every batch but the first."""
    generator = Generator().manual_seed(seed)
    return [torch.randn(N_ROWS, 1, generator=generator, dtype=torch.float64) for _ in range(N_BATCHES)]


def separated() -> Tensor:
    """Return a regressor, of both signs and none near zero."""
    return torch.cat([torch.linspace(-2.0, -0.5, 20), torch.linspace(0.5, 2.0, 20)]).double().unsqueeze(-1)


@pytest.mark.parametrize(("n_batches", "n_rows"), [(N_BATCHES, N_ROWS), (3, 25_000)], ids=["short", "long"])
def test_a_dispersion_comes_back_from_zero(n_batches: int, n_rows: int) -> None:
    """Of long batches a part is looked at."""
    generator = Generator().manual_seed(1)
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 0, NegativeBinomial()))
    stream = StreamingFit(mixture, progress=False)
    none = torch.empty(n_rows, 0, dtype=torch.float64)
    stream.partial_fit(none[:N_ROWS], torch.full((N_ROWS, 1), 5.0, dtype=torch.float64))
    assert float(mixture.experts.scale.detach()) < 1e-4
    for _ in range(n_batches):
        # Gamma of shape 2 times 2.5: the dispersion is a half.
        rate = -2.5 * torch.rand(n_rows, 2, generator=generator, dtype=torch.float64).log().sum(-1, keepdim=True)
        stream.partial_fit(none, torch.poisson(rate, generator=generator))
    assert float(mixture.experts.scale.detach()) == pytest.approx(0.5, abs=0.15)


def test_coefficients_come_back_from_a_batch_that_they_separate() -> None:
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, Binomial()))
    stream, x = StreamingFit(mixture, progress=False), separated()
    stream.partial_fit(x, (x > 0).double(), gate_x=x[:, :0])
    assert float(mixture.experts.coefficients[0, 0, 1]) > 20.0
    generator = Generator().manual_seed(2)
    for one in batches():
        y = torch.bernoulli(one.sigmoid(), generator=generator)
        stream.partial_fit(one, y, gate_x=one[:, :0])
    assert mixture.experts.coefficients.flatten().tolist() == pytest.approx([0.0, 1.0], abs=0.3)


def test_coefficients_that_separate_all_batches_stay() -> None:
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, Binomial()))
    stream, x = StreamingFit(mixture, progress=False), separated()
    stream.partial_fit(x, (x > 0).double(), gate_x=x[:, :0])
    before = float(mixture.experts.coefficients[0, 0, 1])
    for _ in range(3):
        stream.partial_fit(x, (x > 0).double(), gate_x=x[:, :0])
    assert float(mixture.experts.coefficients[0, 0, 1]) >= before


def test_a_gate_comes_back_from_a_batch_that_it_separates() -> None:
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 0, Gaussian()))
    stream, x, generator = StreamingFit(mixture, progress=False), separated(), Generator().manual_seed(3)

    def learn(inputs: Tensor, is_high: Tensor) -> None:
        noise = torch.randn(is_high.shape, generator=generator, dtype=torch.float64)
        stream.partial_fit(inputs[:, :0], 10.0 * is_high + noise, gate_x=inputs)

    learn(x, (x > 0).double())
    assert abs(float(mixture.gate.coefficients[0, 1])) > 30.0
    for one in batches():
        learn(one, torch.bernoulli(one.sigmoid(), generator=generator))
    assert abs(float(mixture.gate.coefficients[0, 1])) == pytest.approx(1.0, abs=0.3)
