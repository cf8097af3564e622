"""Student-t distributions, compared with Pyro's in float64."""

import pytest
import torch
from pyro.distributions import MultivariateStudentT, StudentT

from mixpyro.distributions.student_t import PreciseStudentT, SharedStudentT

DEGREES = torch.tensor([0.7, 5.0, 1e3, 1e6, 1e8], dtype=torch.float64)


def test_the_float64_log_density_agrees_with_pyro() -> None:
    y = torch.linspace(-4, 4, 5).double()
    ours, pyros = (kind(DEGREES, y, 0.5 + y.square()).log_prob(y.flip(0)) for kind in (PreciseStudentT, StudentT))
    torch.testing.assert_close(ours, pyros, rtol=0, atol=1e-7)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_float32_log_density_is_precise_at_many_degrees_of_freedom(n_outputs: int) -> None:
    root = torch.eye(n_outputs).double() + 0.3 * torch.ones(n_outputs, n_outputs).double().tril()
    y = torch.ones(5, n_outputs).double()
    exact = MultivariateStudentT(DEGREES, torch.zeros(n_outputs).double(), root).log_prob(y)
    shared = SharedStudentT(DEGREES.float(), torch.zeros(n_outputs), root.float())
    ours = shared.log_prob(y.float())
    torch.testing.assert_close(ours, exact.float(), rtol=0, atol=2e-5)
    if n_outputs == 1:
        alone = PreciseStudentT(DEGREES.float(), 0.0, root.float().squeeze()).log_prob(y[:, 0].float())
        torch.testing.assert_close(alone, exact.float(), rtol=0, atol=2e-5)
