"""Log likelihoods of linear predictors whose coefficients are in part common to several functions."""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.linear_predictors import LinearExpansion, LinearPredictors
from mixpyro.numerics.newton import Coefficients, Values


class TiedPredictors:
    """The sum f(θ) = Σₖ fₖ(bₖ) of K log likelihoods, bₖ = cₖ + Aₖ φ, with a prior on φ.

    The entries of φ are coefficients of [1, x]: own ones of one function, or common ones of several. Columns of the
    standardised design make an orthonormal basis of what φ spans, and θ are the coordinates in it, so that the
    coefficients are as well conditioned as those of the functions by themselves.

    It is one function of Q = C F coefficients, with the members of
    :class:`~mixpyro.numerics.linear_predictors.LinearPredictors`.

    Args:
        each: the K functions, without a prior.
        selection: A [K, E, F], the same for every predictor: which entry of φ is which coefficient of [1, x].
        fixed: c, the coefficients that are none of φ [K, C, E].
        prior_scale: s of a Normal(0, s²) prior on every entry of φ; None for none.
    """

    def __init__(
        self,
        each: LinearPredictors,
        selection: Float[Tensor, "K E F"],
        fixed: Float[Tensor, "K C E"],
        *,
        prior_scale: float | None = None,
    ) -> None:
        self.each, self.n_predictors = each, each.n_predictors
        self.precision = 0.0 if prior_scale is None else prior_scale**-2
        maps = torch.linalg.solve_triangular(each.transform, selection, upper=True)
        basis, self._root = torch.linalg.qr(maps.flatten(0, 1))
        self.basis = basis.contiguous().unflatten(0, maps.shape[:2])
        self._offset = each.split(each.standardised_coefficients(fixed))

    @functools.cached_property
    def maps(self) -> Float[Tensor, "K M Q"]:
        """Standardised coefficients of each function per coefficient θ, of all predictors."""
        blocks = [torch.block_diag(*[one] * self.n_predictors) for one in self.basis]
        return torch.stack(blocks)

    @functools.cached_property
    def penalty(self) -> Float[Tensor, "F F"]:
        """Information of the prior on one predictor's coefficients."""
        identity = torch.eye(len(self._root), dtype=self._root.dtype, device=self._root.device)
        inverse = torch.linalg.solve_triangular(self._root, identity, upper=True)
        return (self.precision * inverse.mT @ inverse).contiguous()

    def split(self, coefficients: Coefficients) -> Float[Tensor, "1 C F"]:
        """Return coefficients as a matrix.

        Args:
            coefficients: θ [1, Q].
        """
        return coefficients.unflatten(1, (self.n_predictors, -1))

    def standardised_coefficients(self, coefficients: Float[Tensor, "K C E"]) -> Coefficients:
        """Return θ [1, Q].

        Args:
            coefficients: of [1, x], of all functions.
        """
        own = self.each.split(self.each.standardised_coefficients(coefficients)) - self._offset
        return self._gathered(own.flatten(1))

    def original_coefficients(self, coefficients: Coefficients) -> Float[Tensor, "K C E"]:
        """Return coefficients of [1, x] of all functions.

        Args:
            coefficients: θ [1, Q].
        """
        return self.each.original_coefficients(self._of_each(coefficients))

    def predictors(self, coefficients: Coefficients) -> Float[Tensor, "N K C"]:
        """Return the predictors of every row and function [N, K, C].

        Args:
            coefficients: θ [1, Q].
        """
        return self.each.predictors(self._of_each(coefficients))

    def values(self, coefficients: Coefficients) -> Values:
        """Return f [1].

        Args:
            coefficients: θ [1, Q].
        """
        total = self.each.values(self._of_each(coefficients)).sum(0, keepdim=True)
        if not self.precision:
            return total
        matrix = self.split(coefficients)
        return total - 0.5 * ((matrix @ self.penalty) * matrix).sum((-2, -1))

    def bounded(self, step: Coefficients) -> Coefficients:
        """Shorten a step along which the predictor of a row would change by much.

        Args:
            step: [1, Q].
        """
        each = self._spread(step)
        shares = self.each.bounded(each).abs().sum(-1) / each.abs().sum(-1)
        return step * shares.nan_to_num(1.0).amin()

    def moments(self, weights: Float[Tensor, "N K"], number: int = 0) -> tuple[float, Float[Tensor, "F F"]]:
        """Return the total weight of the rows, and the weighted second moments of the columns that θ belongs to.

        Args:
            weights: of the rows in each function.
            number: not read; there is one function.
        """
        found = [self.each.moments(weights, k) for k in range(len(self.basis))]
        moments = sum(basis.mT @ one @ basis for basis, (_, one) in zip(self.basis, found, strict=True))
        assert isinstance(moments, Tensor)
        return sum(total for total, _ in found), moments

    def expansion(self, coefficients: Coefficients) -> "TiedExpansion":
        """Return first and second derivatives of f.

        Args:
            coefficients: θ [1, Q].
        """
        return TiedExpansion(self, coefficients)

    def _of_each(self, coefficients: Coefficients) -> Float[Tensor, "K M"]:
        """Return the standardised coefficients of each function."""
        return self._spread(coefficients) + self._offset.flatten(1)

    def _spread(self, direction: Coefficients) -> Float[Tensor, "K M"]:
        """Return Aₖ θ of each function."""
        return (self.split(direction) @ self.basis.mT).flatten(1)

    def _gathered(self, each: Float[Tensor, "K M"]) -> Coefficients:
        """Return Σₖ Aₖ' vₖ [1, Q]."""
        return (self.each.split(each) @ self.basis).sum(0).flatten().unsqueeze(0)


class TiedExpansion:
    """Second-order expansion of :class:`TiedPredictors` about a point.

    Args:
        functions: the f.
        coefficients: the point θ [1, Q].

    Attributes:
        gradient: first derivatives [1, Q].
    """

    def __init__(self, functions: TiedPredictors, coefficients: Coefficients) -> None:
        self.functions = functions
        self.each: LinearExpansion = functions.each.expansion(functions._of_each(coefficients))
        self.gradient = functions._gathered(self.each.gradient) - self._penalised(coefficients)

    def information(self) -> Float[Tensor, "1 Q Q"]:
        """Return minus the second derivatives: those of every function, summed over functions."""
        maps, penalty = self.functions.maps, self.functions.penalty
        total = (maps.mT @ self.each.information() @ maps).sum(0)
        if self.functions.precision:
            total = total + torch.block_diag(*[penalty] * self.functions.n_predictors)
        return total.unsqueeze(0)

    def information_product(self, direction: Coefficients) -> Coefficients:
        """Return minus the second derivatives times a direction.

        Args:
            direction: [1, Q].
        """
        image = self.each.information_product(self.functions._spread(direction))
        return self.functions._gathered(image) + self._penalised(direction)

    def precondition(self, residual: Coefficients) -> Coefficients:
        """Return a residual times a rough inverse of the information: that of every function by itself, projected.

        Args:
            residual: [1, Q].
        """
        return self.functions._gathered(self.each.precondition(self.functions._spread(residual)))

    def _penalised(self, coefficients: Coefficients) -> Coefficients | float:
        """Return the prior's part of the derivatives."""
        if not self.functions.precision:
            return 0.0
        return (self.functions.split(coefficients) @ self.functions.penalty).flatten(1)
