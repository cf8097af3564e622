"""Damped Newton's method, with the matrix of second derivatives and without."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mixpyro.numerics.linear_predictors import LinearExpansion, LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, maximised
from mixpyro.numerics.soft_labels import SoftLabels
from tests.problems import inputs, responsibilities

# The most coefficients of a function whose equations are solved with the matrix: all, or none.
PATHS = {"dense": 10**6, "conjugate gradients": 0}


@pytest.fixture(params=PATHS)
def most_dense(request: pytest.FixtureRequest) -> int:
    """Each of the two paths in turn."""
    return PATHS[request.param]


class Quadratics:
    """−½ (c − m)' A (c − m) for a batch of m [B, Q] and A [B, Q, Q]; also its own expansion."""

    def __init__(self, maximum: Tensor, information: Tensor) -> None:
        self.maximum, self.matrices = maximum, information
        self.gradient = torch.empty(0)

    def values(self, coefficients: Tensor) -> Tensor:
        offset = coefficients - self.maximum
        return -0.5 * torch.einsum("bq,bqr,br->b", offset, self.matrices, offset)

    def expansion(self, coefficients: Tensor) -> "Quadratics":
        self.gradient = self.information_product(self.maximum - coefficients)
        return self

    def information(self) -> Tensor:
        return self.matrices.clone()

    def information_product(self, direction: Tensor) -> Tensor:
        return torch.einsum("bqr,br->bq", self.matrices, direction)

    def precondition(self, residual: Tensor) -> Tensor:
        return residual


class Logarithms:
    """Σ (n c − exp c) for counts n [B, Q], with its maximum at log n; also its own expansion."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        self.rates = self.gradient = torch.empty(0)

    def values(self, coefficients: Tensor) -> Tensor:
        return (self.counts * coefficients - coefficients.exp()).sum(-1)

    def expansion(self, coefficients: Tensor) -> "Logarithms":
        self.rates = coefficients.exp()
        self.gradient = self.counts - self.rates
        return self

    def information(self) -> Tensor:
        return torch.diag_embed(self.rates)

    def information_product(self, direction: Tensor) -> Tensor:
        return self.rates * direction

    def precondition(self, residual: Tensor) -> Tensor:
        return residual / self.rates


def logistic(n_rows: int, n_features: int, n_classes: int, prior_scale: float | None = None) -> LinearPredictors:
    """A multinomial logistic regression of soft labels on random inputs."""
    labels = SoftLabels(responsibilities(n_rows, n_classes))
    return LinearPredictors(inputs(n_rows, n_features), labels, n_predictors=n_classes - 1, prior_scale=prior_scale)


def at_zero(functions: LinearPredictors) -> Tensor:
    """Coefficients [1, Q], all zero."""
    return functions.columns.new_zeros(1, functions.n_predictors * functions.columns.shape[1])


def test_a_batch_of_quadratic_functions(most_dense: int) -> None:
    maximum, roots = inputs(4, 6), inputs(4 * 6, 6).unflatten(0, (4, 6))
    functions = Quadratics(maximum, roots @ roots.mT + torch.eye(6).double())
    found = maximised(functions, inputs(4, 6, seed=1), n_steps=25, most_dense=most_dense)
    torch.testing.assert_close(found, maximum, rtol=0, atol=1e-6)


def test_a_batch_with_its_maxima_far_apart(most_dense: int) -> None:
    """The functions need different numbers of steps, and different halvings of them."""
    counts = torch.tensor([[1.0, 2.0], [1e-2, 1e3], [50.0, 50.0]]).double()
    found = maximised(Logarithms(counts), torch.full((3, 2), -4.0).double(), n_steps=60, most_dense=most_dense)
    torch.testing.assert_close(found, counts.log(), rtol=1e-6, atol=1e-6)


def test_no_value_falls_from_step_to_step(most_dense: int) -> None:
    functions = Logarithms(torch.tensor([[3.0, 800.0], [1e-2, 1e-4]]).double())
    coefficients = torch.tensor([[6.0, -6.0], [5.0, -3.0]]).double()
    values = functions.values(coefficients)
    for _ in range(30):
        coefficients = maximised(functions, coefficients, n_steps=1, most_dense=most_dense)
        before, values = values, functions.values(coefficients)
        assert (values >= before).all()


def test_a_function_that_is_higher_at_zero_begins_there(most_dense: int) -> None:
    """At −800 the rate is zero to rounding, and its logarithm's likelihood flat; the other function begins well."""
    functions = Logarithms(torch.tensor([[5.0], [5.0]]).double())
    start = torch.tensor([[-800.0], [1.5]]).double()
    found = maximised(functions, start, n_steps=25, most_dense=most_dense)
    torch.testing.assert_close(found, torch.full((2, 1), 5.0).double().log())
    one_step = maximised(functions, start, n_steps=1, most_dense=most_dense)
    assert one_step[0] != 0.0


@pytest.mark.parametrize("start", [torch.nan, 1e4])
def test_a_start_without_a_value_is_replaced_by_zero(start: float, most_dense: int) -> None:
    functions = Logarithms(torch.tensor([[2.0]]).double())
    found = maximised(functions, torch.tensor([[start]]).double(), n_steps=25, most_dense=most_dense)
    torch.testing.assert_close(found, torch.tensor([[2.0]]).double().log())


def test_a_constant_function_stays_where_it_is(most_dense: int) -> None:
    functions = Quadratics(torch.ones(2, 3).double(), torch.stack([torch.zeros(3, 3), torch.eye(3)]).double())
    start = torch.full((2, 3), 7.0).double()
    found = maximised(functions, start, n_steps=25, most_dense=most_dense)
    assert torch.equal(found[0], start[0])
    torch.testing.assert_close(found[1], torch.ones(3).double())


def test_collinear_columns_leave_the_predictions_determined(most_dense: int) -> None:
    x, labels = inputs(40, 3), responsibilities(40, 3)
    twice = torch.cat([x, x[:, :2] - x[:, 2:]], dim=1)
    found = []
    for columns in (x, twice):
        functions = LinearPredictors(columns, SoftLabels(labels), n_predictors=2)
        coefficients = maximised(functions, at_zero(functions), n_steps=25, most_dense=most_dense)
        assert coefficients.abs().max() < 100.0
        found.append(functions.predictors(coefficients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_separated_classes_stay_finite(most_dense: int) -> None:
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).unsqueeze(-1)
    labels = torch.cat([x > 0.2, (x <= 0.2) & (x > -0.5), x <= -0.5], dim=1).double()
    functions = LinearPredictors(x, SoftLabels(labels), n_predictors=2)
    found = maximised(functions, at_zero(functions), n_steps=25, most_dense=most_dense)
    assert torch.isfinite(found).all()
    assert -1e-3 < float(functions.values(found)) <= 0.0
    again = maximised(functions, found, n_steps=25, most_dense=most_dense)
    assert torch.isfinite(again).all()
    assert functions.values(again) >= functions.values(found)


@pytest.mark.parametrize("prior_scale", [None, 0.3])
@pytest.mark.parametrize("size", [(60, 2, 3), (200, 30, 8), (300, 1, 40)])
def test_both_paths_reach_the_same_value(size: tuple[int, int, int], prior_scale: float | None) -> None:
    functions = logistic(*size, prior_scale)
    dense, by_gradients = (
        maximised(functions, at_zero(functions), n_steps=25, most_dense=limit) for limit in PATHS.values()
    )
    torch.testing.assert_close(functions.values(dense), functions.values(by_gradients), rtol=0, atol=1e-8)
    torch.testing.assert_close(dense, by_gradients, rtol=1e-3, atol=1e-4)
    for found in (dense, by_gradients):
        assert functions.expansion(found).gradient.abs().max() < 1e-4


@pytest.fixture
def matrices_formed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of coefficients for which a matrix of second derivatives has been formed."""
    formed: list[int] = []
    information = LinearExpansion.information

    def counted(self: LinearExpansion) -> Tensor:
        formed.append(self.gradient.shape[1])
        return information(self)

    monkeypatch.setattr(LinearExpansion, "information", counted)
    yield formed


@pytest.mark.parametrize(("n_coefficients", "dense"), [(MOST_DENSE, True), (MOST_DENSE + 1, False)])
def test_beyond_a_number_of_coefficients_no_matrix_is_formed(
    n_coefficients: int, dense: bool, matrices_formed: list[int]
) -> None:
    functions = logistic(2 * n_coefficients, n_coefficients - 1, 2)
    maximised(functions, at_zero(functions), n_steps=25)
    assert bool(matrices_formed) == dense


@pytest.mark.parametrize("start", [-30.0, -100.0, -300.0])
def test_a_step_from_where_a_likelihood_is_flat_is_no_longer_than_what_gains(start: float, most_dense: int) -> None:
    """A row on the wrong side by 100 nats has a curvature of e⁻¹⁰⁰: Newton's own step would be e¹⁰⁰ long."""
    functions = LinearPredictors(torch.zeros(1, 0), SoftLabels(torch.tensor([[0.0, 1.0]]).double()), n_predictors=1)
    reached = maximised(
        functions,
        torch.tensor([[start]]).double(),
        n_steps=1,
        most_dense=most_dense,
        bounded=functions.bounded,
    )
    assert start < float(reached) < 10.0 * abs(start)
