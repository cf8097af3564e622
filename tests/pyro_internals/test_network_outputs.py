"""Networks that fail, or return what cannot be read, are named in the error, and stay as they were."""

import copy
from collections.abc import Callable

import pyro
import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    SoftmaxGate,
    fit,
)
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.gates.base import Gate
from mixpyro.pyro_internals.plates import objects_plate


class Returns(nn.Module):
    """A network whose output a function changes."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.norm, self.layer, self.change = nn.BatchNorm1d(1), nn.Linear(1, 2), change

    def forward(self, x: Tensor) -> object:
        """Return the changed output."""
        return self.change(self.layer(self.norm(x)))


def fails(output: Tensor) -> Tensor:
    """Fail as a product of matrices that do not fit."""
    return output @ torch.ones(3, 3)


NO_FLOATS = "must return a tensor of floats; got "
OTHER_SHAPE = r"must return \w+ of shape .* for x \[6, 1\]; got "
BAD: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "tuple": (lambda output: (output, output), TypeError, NO_FLOATS + "tuple"),
    "none": (lambda output: None, TypeError, NO_FLOATS + "NoneType"),
    "integers": (lambda output: output.round().long(), TypeError, NO_FLOATS + "torch.int64"),
    "complex": (lambda output: output.to(torch.complex64), TypeError, NO_FLOATS + "torch.complex64"),
    "too narrow": (lambda output: output[:, :1], ValueError, OTHER_SHAPE + r"\[6, 1\]"),
    "too few rows": (lambda output: output[:3], ValueError, OTHER_SHAPE + r"\[3, 2\]"),
    "fails": (fails, ValueError, r"must take x \[6, 1\] of torch.float32; got from it RuntimeError: mat1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_network_is_named_and_counts_nothing(kind: str) -> None:
    change, error, message = BAD[kind]
    x = torch.randn(6, 1)
    gate, experts = NeuralGate(2, Returns(change)), NeuralExperts(2, 1, Returns(change), Poisson())
    for part, call in ((gate, gate.weights), (experts, experts.predict)):
        before = copy.deepcopy(part.state_dict())
        with pytest.raises(error, match=f"^`network` {message}"):
            call(x)
        assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())


@pytest.mark.parametrize("width", [1, 3])
def test_a_network_for_other_inputs_is_refused_by_a_fit(width: int) -> None:
    x = torch.randn(20, 2)
    gate = MixtureOfExperts(NeuralGate(2, nn.Linear(width, 2)), LinearExperts(2, 2, dtype=torch.float32))
    family = Gaussian()
    experts = MixtureOfExperts(DirichletGate(2), NeuralExperts(2, 2, nn.Linear(width, 2), family))
    for mixture in (gate, experts):
        with pytest.raises(ValueError, match=r"^`network` must take x \[\d+, 2\] of torch.float32; got from it "):
            fit(mixture, x, x[:, 0], n_restarts=1, progress=False)


def gates() -> dict[str, Gate]:
    """Return gates that read x."""
    return {
        "neural": NeuralGate(2, nn.Linear(1, 2).double()),
        "softmax": SoftmaxGate(2, 1),
        "softmax with a prior": SoftmaxGate(2, 1, prior_scale=1.0),
        "coefficients": BayesianSoftmaxGate(2, 1),
    }


@pytest.mark.parametrize("name", gates())
def test_nan_in_a_program_is_named(name: str) -> None:
    gate = gates()[name]
    x = torch.tensor([[0.0], [float("nan")], [1.0]]).double()
    with pytest.raises(ValueError, match=r"^`x` must be finite; got 1 NaN or infinite values of 3"):
        gate.model(x, plate=objects_plate(x))


def test_a_network_whose_weights_are_nan_is_named_in_a_program() -> None:
    gate, x = gates()["neural"], torch.ones(3, 1).double()
    torch.nn.init.constant_(next(gate.parameters()), torch.nan)
    with pytest.raises(ValueError, match=r"^`x` must give log weights that are numbers; got NaN in 3 of 3 rows"):
        gate.model(x, plate=objects_plate(x))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.tensor([[0.5, 0.5], [-0.1, 1.1]]), ValueError, "be finite and non-negative.*got 1 other rows of 2"),
        (torch.tensor([[0.5, 0.5], [0.0, 0.0]]), ValueError, "be finite and non-negative.*got 1 other rows of 2"),
        (torch.tensor([[0.5, 0.5], [torch.nan, 1.0]]), ValueError, "be finite and non-negative.*got 1 other rows of 2"),
        (torch.ones(2, 3), ValueError, r"have shape \[2, 2\].*got \[2, 3\]"),
        (torch.ones(2, 2, dtype=torch.long), TypeError, "have a floating dtype; got torch.int64"),
        ([[0.5, 0.5], [0.5, 0.5]], TypeError, "be a torch.Tensor; got list"),
    ],
)
@pytest.mark.usefixtures("bad_arguments")
def test_bad_responsibilities_of_a_program_are_refused(bad: Tensor, error: type[Exception], message: str) -> None:
    x = torch.zeros(2, 0)
    with pytest.raises(error, match=f"^`responsibilities` must {message}"):
        DirichletGate(2).assignment_guide(x, bad, plate=pyro.plate("objects", 2, dim=-1))
