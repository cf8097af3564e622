"""What parts with linear predictors keep of the rows of a fit: standardised columns, and the last block's results."""

import torch

from mixpyro.numerics.last_block import LastBlock
from mixpyro.numerics.newton_sums import Standardisation


class HasColumnsOfFit:
    """A module whose coefficients a fit counts in standardised columns; they are no part of its state."""

    n_features: int
    coefficients_estimate: torch.nn.Parameter

    @property
    def standardisation(self) -> Standardisation:
        """The columns in which a fit counts its coefficients; x itself before ``centre``."""
        own: Standardisation | None = self.__dict__.get("_standardisation")
        return Standardisation.none(self.n_features, self.coefficients_estimate.device) if own is None else own

    @property
    def _last_block(self) -> LastBlock:
        """What was computed of the last block of rows."""
        own: LastBlock | None = self.__dict__.get("_last_block_of_runs")
        if own is None:
            own = self.__dict__["_last_block_of_runs"] = LastBlock()
        return own
