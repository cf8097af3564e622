"""Experts of a family of densities: what does not depend on how their linear predictors are computed."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.dominating_counts import of_one_row
from mixpyro.experts.estimated import EstimatedExperts
from mixpyro.experts.families import Family
from mixpyro.experts.linear_layers import FEWEST_OBJECTS, pulled, separated
from mixpyro.numerics.location_scale import location_scale
from mixpyro.shapes import Design, Inputs, Outputs, Responsibilities, Targets

# Relative to the spread of y: an estimated noise stops there, where a component fits its rows exactly.
SMALLEST_SCALE = 1e-6


class FamilyExperts(EstimatedExperts):
    """y | x, z = k from a family of densities with estimated parameters.

    A subclass gives the linear predictors, :meth:`predictors`, and the scales, :attr:`_noise`.

    Args:
        n_components: K, at least 1.
        n_features: D, the number of regressors in x.
        n_outputs: P of the Gaussian, 1 for the others, which have as many as they say.
        family: an instance of a class in ``mixpyro.experts.families``.
        exposure: whether x has one more column, its last, with the exposure or the trials of every row, above 0.
        prior_scale: s of a Normal(0, s²) prior on the parameters of the predictors; None for maximum likelihood.
        name: prefix of the Pyro sites.

    Raises:
        TypeError: if ``family`` is no instance of a family.
        ValueError: if a number is out of its range.
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
        if not isinstance(family, Family):
            raise TypeError(f"`family` must be one of mixpyro.experts.families; got {type(family).__name__}.")
        n_outputs = max(arguments.integer("n_outputs", n_outputs), family.n_outputs)
        super().__init__(n_components, n_features, n_outputs, name=name)
        self.family, self.is_discrete, self.may_be_infinite = family, family.is_discrete, not family.is_finite
        self.exposure = arguments.flag("exposure", exposure)
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)

    def predictors(self, x: Inputs) -> Tensor:
        """Return linear predictors η of every expert [N, K, C], in x's dtype or a more precise one.

        Counts of millions need the digits of float64.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        raise NotImplementedError

    @property
    def _noise(self) -> Tensor:
        """Scales σ [K, S] of the family, the noises first; 1 for a family without."""
        raise NotImplementedError

    @property
    def _noises(self) -> Tensor:
        """Those of the scales that are noises [K, P], without a graph, float64."""
        n_others = max(0, len(self.family.scale_names) - 1)
        found = self._noise.detach().double()
        return found[:, : found.shape[1] - n_others]

    @property
    def n_columns(self) -> int:
        """Number of columns of x: the regressors, and the exposure if there is one."""
        return self.n_features + int(self.exposure)

    def check_inputs(self, x: object) -> Tensor:
        """Return x if it fits these experts, is finite, and has exposures above 0.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.

        Raises:
            TypeError: if x is no floating tensor.
            ValueError: if its shape does not fit, or a value is out of range.
        """
        if not self.exposure:
            return super().check_inputs(x)
        checked = arguments.inputs(x, n_features=self.n_columns)
        if arguments.checks_values() and not bool((checked[:, -1] > 0).all()):
            least = float(checked[:, -1].min())
            raise ValueError(f"`x` must have an exposure above 0, or trials, in its last column; got {least:.6g}.")
        return checked

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x and y [N, P] if they fit these experts and their family.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P], or [N] for one output.

        Raises:
            TypeError: if x or y is no floating tensor.
            ValueError: if a shape or dtype does not fit, or a value is outside the support of the family.
        """
        checked, y_checked = super().check_data(x, y)
        self.family.check(y_checked, self._exposures(checked))
        return checked, y_checked

    def spread_of(self, y: Outputs) -> Tensor:
        """Return what shows where y lies, by the family; arguments as :meth:`Experts.spread_of`."""
        return self.family.spread_of(y)

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return the columns of x that these experts read, without a check.

        Args:
            x: inputs of a mixture [N, D], or [N, D + 1] with an exposure.
        """
        return x if self.exposure else super().select_inputs(x)

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return p(y | x, k) at the estimates, batch shape [N, K] and event shape [P].

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return self.family.distribution(self.predictors(x), self._exposures(x), self._noise.to(x.dtype))

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's mean of y [N, K, P], in x's dtype; for a categorical, probabilities of all categories.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return self.family.mean(self.predictors(x), self._exposures(x))

    @torch.no_grad()
    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return which components' noise has collapsed on a few points, where the likelihood is unbounded.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P] or [N].
            responsibilities: [N, K].

        Returns:
            A message for each such component.
        """
        if not self.family.has_scale:
            return []
        _, y = self.check_data(x, y)
        counts = responsibilities.sum(0)
        smallest = 10.0 * smallest_scale(self.family.spread_of(y), responsibilities.sum(-1))
        collapsed = (self._noises <= smallest).any(-1) & (counts > 0)
        return [
            f"the noise of component {self.first_component + k} has collapsed on {float(counts[k]):.1f} objects"
            for k in collapsed.nonzero().flatten().tolist()
        ]

    def noises(self) -> Float[Tensor, "K P"] | None:
        """Return σ; None for a family without."""
        return self._noises if self.family.has_scale else None

    def separations(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return which components' likelihood has its maximum at infinity, as where x separates a binomial y.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P] or [N].
            responsibilities: [N, K].

        Returns:
            A message for each such component; of coefficients none with a prior, nor for a Gaussian, whose information
            is never lost.
        """
        x, y = self.check_data(x, y)
        found = self._at_limits(y, responsibilities)
        if self.family.has_scale or self.prior_scale is not None:
            return found
        layers, exposure = self.linear_layers(x), self._exposures(x)
        apart = separated(self.family, layers, y, exposure, responsibilities, scale=self._noise)
        return found + [
            f"component {self.first_component + k} has its maximum at infinity, as where x separates y "
            f"({direction.described()}); set `prior_scale`"
            for k, direction in apart
        ]

    @torch.no_grad()
    def _at_limits(self, y: Outputs, responsibilities: Responsibilities) -> list[str]:
        """Return which components' scales have their maximum at infinity or zero."""
        if not self.family.scale_names:
            return []
        held = (responsibilities.sum(0) > FEWEST_OBJECTS).nonzero().flatten().tolist()
        said = [(k, self.family.beyond_limits(y, self._noise[k].detach(), responsibilities[:, k])) for k in held]
        return [f"component {self.first_component + k} {words}" for k, words in said if words]

    def prior_warnings(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return which components' estimates the prior has moved far, or one row; arguments as :meth:`separations`."""
        x, y = self.check_data(x, y)
        exposure, r = self._exposures(x), responsibilities
        dominated = of_one_row(y, exposure, r, self.first_component) if self.family.has_counts else []
        if self.prior_scale is None:
            return dominated
        layers = self.linear_layers(x)
        found = pulled(self.family, layers, y, exposure, r, scale=self._noise, prior_scale=self.prior_scale)
        moved = [self._pulled(f"the coefficients of component {self.first_component + k}", pull) for k, pull in found]
        return dominated + moved

    def _pulled(self, what: str, pull: float) -> str:
        """Return in words how far the prior has moved estimates."""
        return (
            f"the prior says more of {what} than the data do: `prior_scale`, {self.prior_scale:.3g}, has moved them by "
            f"{pull:.1f} standard errors. They are per unit of x, and the intercept is at x = 0: give a larger "
            "`prior_scale`, or standardise x."
        )

    def cautions(self) -> list[str]:
        """Return which components' scales call for a look at them."""
        if not self.family.scale_names:
            return []
        said = [self.family.caution(scale) for scale in self._noise.detach()]
        return [f"component {self.first_component + k} {words}" for k, words in enumerate(said) if words]

    def linear_layers(self, x: Inputs) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield estimated linear layers: first component, inputs [N, E], coefficients [B, C, 1 + E]. None by default.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        return iter(())

    def columns(self, x: Inputs, y: Outputs) -> tuple[Tensor, ...]:
        """Return x [D, N], y [P, N] and, where the family uses it, the saturated log density [1, N], float64.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P].
        """
        saturated = self.family.saturated(y, self._exposures(x))
        return (x.mT, y.mT) if saturated is None else (x.mT, y.mT, saturated.mT)

    def log_likelihood(self, x: Inputs, y: Outputs, saturated: Tensor | None = None) -> Responsibilities:
        """Return log p(yᵢ | xᵢ, k) at the estimates [N, K] in nats, for rows that have been checked.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P].
            saturated: the family's saturated log density [N, 1], float64; computed if it is not given.
        """
        exposure = self._exposures(x)
        if saturated is None:
            saturated = self.family.saturated(y, exposure)
        log_prob = self.family.beyond_saturated(y, self.predictors(x), exposure, self._noise)
        return (log_prob if saturated is None else saturated + log_prob).to(x.dtype)

    def _regressors(self, x: Inputs) -> Design:
        """Columns of x that predictors are computed from."""
        return x[:, : self.n_features]

    def _exposures(self, x: Inputs) -> Tensor:
        """Exposure of every row [N, 1, 1], 1 where there is none."""
        return (x[:, -1:] if self.exposure else x.new_ones(len(x), 1)).unsqueeze(-1)


def smallest_scale(y: Outputs, weights: Float[Tensor, " N"]) -> Float[Tensor, " P"]:
    """Return the noise at which estimates of it stop, float64, above 0.

    It is a millionth of the scale of y, or the rounding error of y where that is larger; a few huge values do not move
    it.

    Args:
        y: outputs [N, P].
        weights: of the rows [N], not all zero.

    Returns:
        [P], in the unit of y.
    """
    location, scale = location_scale(y, weights)
    rounding = 4.0 * torch.finfo(y.dtype).eps * (location.abs() + scale)
    # The square of the last term is still a float64 above 0.
    return torch.maximum(SMALLEST_SCALE * scale, rounding) + 1e-150
