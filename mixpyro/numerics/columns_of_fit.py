"""What parts with linear predictors keep of the rows of a fit: standardised columns, and the last block's results."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.last_block import LastBlock
from mixpyro.numerics.newton_sums import Standardisation


class HasColumnsOfFit:
    """A module whose coefficients a fit counts in standardised columns; they are no part of its state."""

    n_features: int
    coefficients_estimate: torch.nn.Parameter

    def _parameter(self, name: str) -> torch.nn.Parameter:
        """Return a parameter of this module itself; a module's own search takes longer than a small sum."""
        own: torch.nn.Parameter | None = self.__dict__["_parameters"].get(name)
        found: torch.nn.Parameter = getattr(self, name) if own is None else own
        return found

    @property
    def standardisation(self) -> Standardisation:
        """The columns in which a fit counts its coefficients; x itself before ``centre``."""
        own: Standardisation | None = self.__dict__.get("_standardisation")
        return Standardisation.none(self.n_features, self.coefficients_estimate.device) if own is None else own

    def _of_last_block(self, tensors: tuple[Tensor, ...], compute: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Return a result of rows and estimates, that of the last block if it is the same, which is forgotten then.

        Args:
            tensors: all that the result depends on, with the columns of the fit.
            compute: returns the result.
        """
        own: LastBlock | None = self.__dict__.get("_last_block_of_runs")
        if own is None:
            own = self.__dict__["_last_block_of_runs"] = LastBlock()
        return own.of((self.standardisation.location, *tensors), compute)

    def _of_standardised(self, coefficients: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
        """Return coefficients of standardised columns from those of [1, x], float64, by one product."""
        return coefficients @ self._maps[0] if self.n_features else coefficients

    def _original(self, coefficients: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
        """Return coefficients of [1, x] from those of standardised columns, float64, by one product."""
        return coefficients @ self._maps[1] if self.n_features else coefficients

    @property
    def _maps(self) -> tuple[Float[Tensor, "E E"], Float[Tensor, "E E"]]:
        """Transposed matrices of both changes of columns."""
        location, scale = self.standardisation[:2]
        kept: tuple[Tensor, Tensor, tuple[Tensor, Tensor]] | None = self.__dict__.get("_maps_of_columns")
        if kept is None or kept[0] is not location or kept[1] is not scale:
            there = torch.diag_embed(torch.cat([scale.new_ones(1), scale]))
            there[1:, 0] = location
            kept = location, scale, (there, self.standardisation.transform.mT.contiguous())
            self.__dict__["_maps_of_columns"] = kept
        return kept[2]

    def _design(self, rows: Tensor, columns: Float[Tensor, "D N"]) -> Float[Tensor, "E N"]:
        """Return standardised columns of rows, float64, those of the last block if it is the same tensor.

        Args:
            rows: the tensor that the columns are of.
            columns: x' of the rows.
        """
        kept: LastBlock | None = self.__dict__.get("_last_design_of_runs")
        if kept is None:
            kept = self.__dict__["_last_design_of_runs"] = LastBlock()
        of, standardisation = (rows, self.standardisation.location), self.standardisation
        found: Tensor = kept.of(of, lambda: standardisation.design(columns), once=False)
        return found
