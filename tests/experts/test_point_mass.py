"""Experts that give one value."""

import pytest
import torch
from torch import Tensor

from mixpyro import MixtureOfExperts, SoftmaxGate
from mixpyro.experts import Experts, PointMassExperts
from tests.experts.contract import ExpertsContract, K
from tests.problems import inputs, responsibilities


class TestPointMassExperts(ExpertsContract):
    """The contract, with two outputs."""

    n_outputs = 2

    def make(self, n_components: int = K) -> PointMassExperts:
        return PointMassExperts(n_components, [[0.0, 1.0], [0.0, 0.0], [2.0, 0.0]], n_outputs=2)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        """x without columns, which these experts look at."""
        y = torch.randint(3, (n_objects, 2)).double()
        return inputs(n_objects, 0), y, responsibilities(n_objects, K)

    def learn(self, experts: Experts, x: Tensor, y: Tensor, r: Tensor) -> None:
        """There is nothing to learn."""

    def bad_data(self, experts: Experts, x: Tensor, y: Tensor) -> list[tuple[tuple[Tensor, Tensor], str]]:
        """Any x is right."""
        return [
            ((x, torch.full_like(y, torch.inf)), "`y` must be finite"),
            ((x, y[:, :1]), r"`y` must have shape \[N, 2\].*got \[30, 1\]"),
        ]

    def test_an_update_reads_no_rows(self) -> None:
        experts = self.make()
        assert not experts.reads_rows
        assert experts.n_parameters == 0
        assert experts.kl_divergence() == 0


def test_the_log_likelihood_says_which_values_are_its_own() -> None:
    experts = PointMassExperts(2, [0.0, 1.0])
    y = torch.tensor([[0.0], [1.0], [0.5]]).double()
    impossible = -torch.inf
    expected = torch.tensor([[0.0, impossible], [impossible, 0.0], [impossible, impossible]]).double()
    for x in (inputs(3, 0), inputs(3, 4)):
        assert torch.equal(experts.expected_log_likelihood(x, y), expected)
    z = torch.tensor([0, 1, 1])
    by_pyro = experts.likelihood(inputs(3, 0), experts.guide(inputs(3, 0)), z).log_prob(y)
    assert torch.equal(by_pyro, expected[torch.arange(3), z])


def test_an_impossible_value_of_another_component_costs_nothing() -> None:
    experts, x = PointMassExperts(2, [0.0, 1.0]), inputs(2, 0)
    y = torch.tensor([[0.0], [1.0]]).double()
    assert experts.partial_bound(x, y, torch.eye(2).double()) == 0.0
    assert experts.partial_bound(x, y, torch.full((2, 2), 0.5).double()) == -torch.inf


def test_predictions_are_the_values() -> None:
    mixture, x = MixtureOfExperts(SoftmaxGate(2, 0), PointMassExperts(2, [0.0, 3.0])), inputs(4, 0)
    assert (mixture.predict(x) == 1.5).all()
    predictive = mixture.predictive(x)
    torch.testing.assert_close(predictive.variance, torch.full((4, 1), 2.25).double())
    assert set(predictive.sample((20,)).flatten().tolist()) == {0.0, 3.0}


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([0.0, 1.0], ValueError, r"`values` must be a number, 3 numbers or \[3, 2\]; got shape \[2, 1\]"),
        (torch.zeros(3, 3), ValueError, r"`values` must be a number, 3 numbers or \[3, 2\]; got shape \[3, 3\]"),
        (float("nan"), ValueError, "`values` must be finite; got 1 NaN"),
        ("zero", TypeError, "`values` must be a number or numbers; got 'zero'"),
    ],
)
def test_bad_values_are_refused(values: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PointMassExperts(3, values, n_outputs=2)  # type: ignore[arg-type]
