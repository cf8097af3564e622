"""Experts of an exponential family: all that does not depend on how their linear predictors come about."""

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.estimated import EstimatedExperts
from mixpyro.experts.families import Family
from mixpyro.experts.noise import smallest_scale
from mixpyro.shapes import Design, Inputs, Outputs, Responsibilities, Targets


class FamilyExperts(EstimatedExperts):
    """y | x, z = k from an exponential family, its parameters estimated; a subclass gives predictors and noise.

    Args:
        n_components: K.
        n_features: D, the number of regressors in x.
        n_outputs: P, one but for the Gaussian.
        family: one of ``mixpyro.experts.families``.
        exposure: whether x has one more column, its last, with the exposure or the trials of every row.
        prior_scale: s of a Normal(0, s²) prior on what the predictors are computed with; None for maximum likelihood.
        name: prefix of the Pyro sites.
    """

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int,
        family: Family,
        *,
        exposure: bool,
        prior_scale: float | None,
        name: str,
    ) -> None:
        super().__init__(n_components, n_features, n_outputs, name=name)
        if not isinstance(family, Family):
            raise TypeError(f"`family` must be one of mixpyro.experts.families; got {type(family).__name__}.")
        self.family, self.is_discrete = family, family.is_discrete
        self.exposure = exposure
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)

    def predictors(self, x: Inputs) -> Tensor:
        """Linear predictors η of every expert [N, K, C], in x's dtype."""
        raise NotImplementedError

    @property
    def _noise(self) -> Tensor:
        """Noise σ [K, P], ones for a family without."""
        raise NotImplementedError

    @property
    def n_columns(self) -> int:
        """Columns that x must have: the regressors, and the exposure if there is one."""
        return self.n_features + int(self.exposure)

    def check_inputs(self, x: object) -> Tensor:
        """Return x [N, D], or [N, D + 1] with an exposure, if it fits these experts and is finite."""
        if not self.exposure:
            return super().check_inputs(x)
        checked = arguments.inputs(x, n_features=self.n_columns)
        if arguments.checks_values() and not bool((checked[:, -1] > 0).all()):
            least = float(checked[:, -1].min())
            raise ValueError(f"`x` must have an exposure above 0, or trials, in its last column; got {least:.6g}.")
        return checked

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] or [N, D + 1] and y [N, P] if they fit these experts and their family."""
        checked, y_checked = super().check_data(x, y)
        self.family.check(y_checked, self._exposures(checked))
        return checked, y_checked

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return the columns of x that these experts read, without a check.

        Args:
            x: inputs of a mixture [N, D], or [N, D + 1] with an exposure.
        """
        return x if self.exposure else super().select_inputs(x)

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """p(y | x, k) at the estimates, batch shape [N, K] and event shape [P]."""
        return self.family.distribution(self.predictors(x), self._exposures(x), self._noise.to(x.dtype))

    def predict(self, x: Inputs) -> Tensor:
        """Every expert's mean of y [N, K, P], in x's dtype; the probabilities of all categories for a categorical."""
        return self.family.mean(self.predictors(x), self._exposures(x))

    @torch.no_grad()
    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Noise that has collapsed on a few points, where the likelihood is unbounded."""
        if not self.family.has_scale:
            return []
        _, y = self.check_data(x, y)
        counts = responsibilities.sum(0)
        smallest = 10.0 * smallest_scale(y, responsibilities.sum(-1))
        collapsed = (self._noise.double() <= smallest).any(-1) & (counts > 0)
        return [
            f"the noise of component {self.first_component + k} has collapsed on {float(counts[k]):.1f} objects"
            for k in collapsed.nonzero().flatten().tolist()
        ]

    def log_likelihood(self, x: Inputs, y: Outputs) -> Responsibilities:
        """Return log p(yᵢ | xᵢ, k) at the estimates [N, K] in nats, for rows that have been checked.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P].
        """
        return self.family.log_prob(y, self.predictors(x), self._exposures(x), self._noise.to(x.dtype))

    def _regressors(self, x: Inputs) -> Design:
        """The columns of x that predictors are computed from."""
        return x[:, : self.n_features]

    def _exposures(self, x: Inputs) -> Tensor:
        """The exposure of every row [N, 1, 1], ones where there is none."""
        return (x[:, -1:] if self.exposure else x.new_ones(len(x), 1)).unsqueeze(-1)
