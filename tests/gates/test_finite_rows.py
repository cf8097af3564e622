"""Gates refuse rows that are not finite where a user calls them, and read them once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mixpyro import BayesianSoftmaxGate, NeuralGate, SoftmaxGate, TreeGate
from mixpyro.gates.base import Gate
from mixpyro.numerics import nested

GATES: list[Callable[[], Gate]] = [
    lambda: SoftmaxGate(3, 2),
    lambda: BayesianSoftmaxGate(3, 2),
    lambda: TreeGate(3, 2),
    lambda: NeuralGate(3, nn.Linear(2, 3, dtype=torch.float64)),
]
ROWS = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64).view(5, 2)


class Passes(TorchFunctionMode):
    """Counts sums over all rows, after each of which a GPU has to finish its work before the number is read."""

    n_passes = 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.n_passes += func is Tensor.sum and args[0].shape == ROWS.shape
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", GATES)
@pytest.mark.parametrize("method", ["weights", "expected_log_weights", "log_weights", "predictive_assignment"])
def test_rows_are_read_once(make: Callable[[], Gate], method: str) -> None:
    gate = make()
    with Passes() as passes:
        getattr(gate, method)(ROWS)
    assert passes.n_passes == 1
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="`x` must be finite"):
            getattr(gate, method)(ROWS.index_fill(0, torch.tensor([2]), value))


@pytest.mark.parametrize("make", GATES)
def test_rows_of_a_fit_are_not_read(make: Callable[[], Gate]) -> None:
    gate = make()
    state = nested.stack([gate.state()] * 2)
    with Passes() as passes:
        gate.log_weights(ROWS, state)
    assert passes.n_passes == 0


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("make", GATES)
def test_log_weights_of_a_table_are_those_of_its_rows_or_refused(make: Callable[[], Gate]) -> None:
    gate = make()
    try:
        of_table = gate.log_weights(pd.DataFrame(ROWS.numpy()))
    except TypeError as error:
        assert str(error).startswith("`x` must")
    else:
        torch.testing.assert_close(of_table, gate.log_weights(ROWS))
