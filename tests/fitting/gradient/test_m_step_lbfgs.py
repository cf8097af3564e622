"""M-steps by L-BFGS on all rows, after steps on subsamples of them."""

import pytest
import torch
from torch import Tensor, nn

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.fitting.gradient.linear_gates import K, gate
from tests.problems import inputs, responsibilities


def test_it_reaches_the_optimum_of_badly_scaled_inputs() -> None:
    """A column of spread 1000 and mean 5000 has the same optimum as a standardised one; both start at equal weights."""
    x, r = inputs(200), responsibilities(200, K)
    scaled = x * torch.tensor([1.0, 1000.0]).double() + torch.tensor([0.0, 5000.0]).double()
    reached = []
    for data in (x, scaled):
        one = gate()
        for parameter in one.parameters():
            nn.init.zeros_(parameter)
        m_step = MStep(one)
        for _ in range(40):
            m_step.improve(data, r, n_steps=50)
        reached.append(one.partial_bound(data, r).item())
    assert abs(reached[0] - reached[1]) < 1e-3


def test_steps_that_lower_the_objective_are_undone() -> None:
    """Every evaluation changes the logits more than the one before; a buffer counts the evaluations."""

    class ChangingLinear(nn.Linear):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__(2, K, dtype=torch.float64)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) + self.calls * torch.arange(K).double()

    one = NeuralGate(K, ChangingLinear())
    x, r = inputs(20), responsibilities(20, K)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    MStep(one).improve(x, r, n_steps=3)
    calls = before.pop("network.calls")
    assert one.state_dict()["network.calls"] == calls + 1  # the evaluation before the steps
    for name, value in before.items():
        assert torch.equal(one.state_dict()[name], value)


def many_rows() -> tuple[Tensor, Tensor]:
    """Make enough rows for subsamples of them."""
    x = inputs(8000)
    return x, (2.0 * x @ torch.ones(2, K).double().cumsum(1) + inputs(8000, K)).softmax(-1)


def optimum(x: Tensor, r: Tensor) -> float:
    """Maximise the same objective over all rows in plain torch."""
    linear = nn.Linear(2, K).double()
    lbfgs = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        lbfgs.zero_grad()
        mean = -(r * linear(x).log_softmax(-1)).sum() / len(x)
        mean.backward()
        return mean

    lbfgs.step(loss)
    return -len(x) * loss().item()


class RowCounter(nn.Linear):
    """A linear layer that records how many rows each evaluation has.

    Attributes:
        n_rows: one number per evaluation since it was last emptied.
    """

    def __init__(self) -> None:
        super().__init__(2, K, dtype=torch.float64)
        self.n_rows: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate and record."""
        self.n_rows.add(len(x))
        return super().forward(x)


def test_steps_on_subsamples_lead_to_the_optimum_of_all_rows() -> None:
    x, r = many_rows()
    counter = RowCounter()
    one = NeuralGate(K, counter)
    MStep(one).improve(x, r, n_steps=100, tolerance=1e-12)
    assert counter.n_rows == {2000, 8000}
    assert one.partial_bound(x, r).item() == pytest.approx(optimum(x, r), abs=1e-6 * len(x))


def test_steps_on_subsamples_that_lower_the_objective_are_undone_and_not_repeated() -> None:
    x, r = many_rows()
    counter = RowCounter()
    one = NeuralGate(K, counter)
    m_step = MStep(one)
    for _ in range(3):
        before = one.partial_bound(x, r).item()
        counter.n_rows.clear()
        m_step.improve(x, r, n_steps=100)
        assert one.partial_bound(x, r).item() >= before
    assert counter.n_rows == {8000}
