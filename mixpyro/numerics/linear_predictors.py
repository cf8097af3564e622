"""Log likelihoods of linear predictors, as functions of the coefficients."""

import functools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.blocks import rows_per_newton_step, slices
from mixpyro.numerics.curvature import Curvature, Predictors, information_of, total_of
from mixpyro.numerics.design_matrix import standardised
from mixpyro.numerics.newton import RIDGE, Coefficients, Values
from mixpyro.shapes import Inputs

# Change of a predictor, in nats, in a step that gains nothing. Near a maximum steps are shorter; where the maximum is
# at infinity one of Newton's steps takes a predictor one nat further.
MOST_CHANGE = 1.0


@runtime_checkable
class RowTerms(Protocol):
    """B functions, each a sum over rows of a concave function of the row's C predictors."""

    def values(self, eta: Predictors) -> Values:
        """Return the sums [B].

        Args:
            eta: predictors η [N, B, C], float64.
        """
        ...

    def derivatives(self, eta: Predictors) -> tuple[Predictors, Curvature]:
        """Return the first derivatives of every row, and minus its second derivatives.

        Args:
            eta: predictors η [N, B, C], float64.
        """
        ...

    def of_rows(self, rows: slice) -> "RowTerms":
        """Return the terms of some rows, at the present scales.

        Args:
            rows: which.
        """
        ...


class LinearPredictors:
    """Penalised log likelihoods f(b) = Σᵢ ℓᵢ(b uᵢ) − ½ λ |b T'|² of coefficients b of standardised columns u.

    Coefficients of [1, x] are b T'. Coefficients of B functions are [B, Q], C rows of E columns each, flattened.

    Args:
        x: regressors [N, D]; E is 1 + D.
        terms: the ℓ.
        n_predictors: C.
        prior_scale: s of a Normal(0, s²) prior on every coefficient of [1, x], λ = 1 / s²; None for λ = 0.

    Attributes:
        columns: u [N, E], float64.
        transform: T [E, E], float64.
    """

    def __init__(self, x: Inputs, terms: RowTerms, *, n_predictors: int, prior_scale: float | None = None) -> None:
        self.columns, self.transform = standardised(x)
        self.terms = terms
        self.n_predictors = n_predictors
        self.precision = 0.0 if prior_scale is None else prior_scale**-2

    @functools.cached_property
    def gram(self) -> Float[Tensor, "E E"]:
        """Mean over the rows of u u'."""
        return self.columns.mT @ self.columns / len(self.columns)

    @functools.cached_property
    def penalty(self) -> Float[Tensor, "E E"]:
        """Information λ T'T of the prior on one predictor's coefficients."""
        return self.precision * self.transform.mT @ self.transform

    def standardised_coefficients(self, coefficients: Float[Tensor, "B C E"]) -> Coefficients:
        """Return coefficients of the standardised columns [B, Q].

        Args:
            coefficients: of [1, x], [B, C, E].
        """
        columns = coefficients.double().flatten(0, 1).mT
        return torch.linalg.solve_triangular(self.transform, columns, upper=True).mT.reshape(len(coefficients), -1)

    def original_coefficients(self, coefficients: Coefficients) -> Float[Tensor, "B C E"]:
        """Return coefficients of [1, x].

        Args:
            coefficients: of the standardised columns [B, Q].
        """
        return self.split(coefficients) @ self.transform.mT

    def split(self, coefficients: Coefficients) -> Float[Tensor, "B C E"]:
        """Return coefficients as a matrix for each function.

        Args:
            coefficients: [B, Q].
        """
        return coefficients.unflatten(1, (self.n_predictors, -1))

    def predictors(self, coefficients: Coefficients, rows: slice = slice(None)) -> Predictors:
        """Return b u of every row.

        Args:
            coefficients: b [B, Q].
            rows: which; all by default.
        """
        matrices = self.split(coefficients)
        return (self.columns[rows] @ matrices.flatten(0, 1).mT).unflatten(1, matrices.shape[:2])

    def blocks(self, n_functions: int) -> Iterator[slice]:
        """Yield slices of rows whose predictors fit into memory together with what is computed of them; at least one.

        Args:
            n_functions: B.
        """
        size = rows_per_newton_step(n_functions * self.n_predictors)
        return slices(len(self.columns), size) if len(self.columns) > size else iter([slice(0, len(self.columns))])

    def summed(self, values: Predictors, rows: slice = slice(None)) -> Coefficients:
        """Return Σᵢ vᵢ uᵢ', flattened.

        Args:
            values: v of the rows [n, B, C].
            rows: which; all by default.
        """
        return (values.flatten(1).mT @ self.columns[rows]).reshape(values.shape[1], -1)

    def moments(self, weights: Float[Tensor, "N B"], number: int = 0) -> tuple[float, Float[Tensor, "E E"]]:
        """Return the total weight of the rows in one function, and Σ w uu'.

        Args:
            weights: w, of the rows in each function.
            number: of the function.
        """
        own = weights[:, number : number + 1].double()
        return float(own.sum()), self.columns.mT @ (own * self.columns)

    def values(self, coefficients: Coefficients) -> Values:
        """Return f [B].

        Args:
            coefficients: b [B, Q].
        """
        found = [
            self.terms.of_rows(rows).values(self.predictors(coefficients, rows))
            for rows in self.blocks(len(coefficients))
        ]
        values = total_of(found)
        if not self.precision:
            return values
        return values - 0.5 * self.precision * self.original_coefficients(coefficients).square().sum((-2, -1))

    def bounded(self, step: Coefficients) -> Coefficients:
        """Shorten steps [B, Q] along which the predictor of a row would change by more than ``MOST_CHANGE``.

        Args:
            step: [B, Q].
        """
        found = [self.predictors(step, rows).abs().amax((0, 2)) for rows in self.blocks(len(step))]
        change = torch.stack(found).amax(0)
        return step * (MOST_CHANGE / change).clamp_max(1.0).unsqueeze(-1)

    def expansion(self, coefficients: Coefficients) -> "LinearExpansion":
        """Return first and second derivatives of f.

        Args:
            coefficients: b [B, Q].
        """
        return LinearExpansion(self, coefficients)


class LinearExpansion:
    """Second-order expansion of :class:`LinearPredictors` about a point.

    Args:
        functions: the f.
        coefficients: the point b [B, Q].

    Attributes:
        gradient: first derivatives [B, Q].
    """

    def __init__(self, functions: LinearPredictors, coefficients: Coefficients) -> None:
        self.functions = functions
        self.parts, gradients = list[tuple[slice, Curvature]](), list[Tensor]()
        for rows in functions.blocks(len(coefficients)):
            score, curvature = functions.terms.of_rows(rows).derivatives(functions.predictors(coefficients, rows))
            self.parts.append((rows, curvature))
            gradients.append(functions.summed(score, rows))
        self.gradient = total_of(gradients) - self._penalised(coefficients)

    def information(self) -> Float[Tensor, "B Q Q"]:
        """Return minus the second derivatives, Σᵢ Wᵢ ⊗ uᵢuᵢ' + λ I ⊗ T'T, where Wᵢ is the curvature of row i."""
        columns = self.functions.columns
        information = total_of([information_of(curvature, columns[rows]) for rows, curvature in self.parts])
        identity = torch.eye(self.functions.n_predictors, dtype=information.dtype, device=information.device)
        return information + torch.kron(identity, self.functions.penalty)

    def information_product(self, direction: Coefficients) -> Coefficients:
        """Return minus the second derivatives times a direction, in two matrix products.

        Args:
            direction: [B, Q].
        """
        functions = self.functions
        found = [
            functions.summed(curvature.product(functions.predictors(direction, rows)), rows)
            for rows, curvature in self.parts
        ]
        return total_of(found) + self._penalised(direction)

    def precondition(self, residual: Coefficients) -> Coefficients:
        """Return a residual times the inverse of a rough information: of each predictor a multiple of one matrix.

        Args:
            residual: [B, Q].
        """
        weights, factor = self._rough_information
        scaled = self.functions.split(residual) / weights.unsqueeze(-1)
        return torch.cholesky_solve(scaled.flatten(0, 1).mT, factor).mT.reshape(residual.shape)

    @functools.cached_property
    def _rough_information(self) -> tuple[Float[Tensor, "B C"], Float[Tensor, "E E"]]:
        """Information of every predictor, summed over rows, and the Cholesky factor of what it is a multiple of."""
        weights = total_of([curvature.diagonals().sum(0) for _, curvature in self.parts])
        weights = weights + RIDGE * weights.mean(-1, keepdim=True) + torch.finfo(weights.dtype).tiny ** 0.5
        matrix = self.functions.gram + self.functions.penalty / weights.mean()
        diagonal = matrix.diagonal()
        diagonal.add_(RIDGE * diagonal.mean())
        return weights, torch.linalg.cholesky_ex(matrix)[0]

    def _penalised(self, coefficients: Coefficients) -> Coefficients | float:
        """λ b T'T, the prior's part of the derivatives."""
        if not self.functions.precision:
            return 0.0
        return (self.functions.split(coefficients) @ self.functions.penalty).flatten(1)
