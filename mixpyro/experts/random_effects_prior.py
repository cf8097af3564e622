"""The prior of regressions with random effects: where it comes from, where it is counted from, what it outweighs."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.experts import prior_cautions
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.experts.linear_prior import GIVEN_MEAN, GIVEN_PRECISION, GIVEN_RATE, GIVEN_SHAPE
from mixpyro.experts.prior_numbers import degrees_above, scalar
from mixpyro.experts.random_columns import INTERCEPT, checked_effects
from mixpyro.experts.random_effects_cautions import of_effects, of_sizes
from mixpyro.experts.weak_prior import (
    COEFFICIENT_PRECISION,
    NOISE_RATE,
    NOISE_SHAPE,
    DataScales,
    checked_scales,
    filled_in,
    words,
)
from mixpyro.numerics.design_matrix import Origin
from mixpyro.shapes import Inputs, Targets

# Half the groups that the prior of a variance is worth. With the 1.5 of a noise, of which there are many rows,
# variances of effects in twenty groups would be a third too small.
EFFECT_SHAPE = 0.5

# Not typing.Self, which run-time type checkers refuse in methods.
Regressions = TypeVar("Regressions", bound="RandomEffectsPrior")


class RandomEffectsPrior(ConjugateExperts):
    """What :class:`mixpyro.experts.RandomEffectsExperts` do with their prior; that class lists the arguments."""

    posterior_buffers: ClassVar[Mapping[str, str]] = {"mean": "centred_coefficients", "precision": "centred_precision"}

    prior_mean: Tensor
    prior_precision: Tensor
    prior_shape: Tensor
    prior_rate: Tensor
    prior_degrees: Tensor
    prior_scale: Tensor
    prior_x_origin: Tensor
    prior_y_origin: Tensor
    prior_effect_origin: Tensor
    x_origin: Tensor
    y_origin: Tensor

    def __init__(
        self,
        n_components: int,
        n_features: int,
        random_effects: Sequence[int | str] = (INTERCEPT,),
        *,
        noise_per_component: bool = True,
        covariance_per_component: bool = True,
        coefficient_mean: float | Sequence[float] | Tensor | None = None,
        coefficient_precision: float | Sequence[float] | Tensor | None = None,
        noise_shape: float | None = None,
        noise_rate: float | None = None,
        effect_degrees: float | None = None,
        effect_scale: float | Sequence[float] | Tensor | None = None,
        scales: DataScales | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, n_features, 1, name=name)
        self.n_columns = self.n_features + 1
        self.random_effects = checked_effects(random_effects, self.n_features)
        self.noise_per_component = arguments.flag("noise_per_component", noise_per_component)
        self.covariance_per_component = arguments.flag("covariance_per_component", covariance_per_component)
        arguments.no_modules(
            coefficient_mean=coefficient_mean,
            coefficient_precision=coefficient_precision,
            noise_shape=noise_shape,
            noise_rate=noise_rate,
            effect_degrees=effect_degrees,
            effect_scale=effect_scale,
        )
        self.coefficient_mean, self.coefficient_precision = coefficient_mean, coefficient_precision
        self.noise_shape, self.noise_rate = noise_shape, noise_rate
        self.effect_degrees, self.effect_scale = effect_degrees, effect_scale
        self.scales = checked_scales(scales, self.n_features, 1)
        like = torch.empty(0, device=arguments.device(device), dtype=arguments.dtype(dtype))
        for buffer, value in self._priors_as_given().items():
            self.register_buffer(buffer, value.to(like))
        arguments.representable("coefficient_precision", self.prior_precision.diagonal())
        arguments.representable("noise_rate", self.prior_rate)
        arguments.representable("effect_scale", self.prior_scale.diagonal())
        self._register_origins(like)
        if self.scales is not None:
            self._count_from(self.scales)
            self._scale_prior(self.scales)
        self.register_posterior(self.prior, like=like)

    def _register_origins(self, like: Tensor) -> None:
        """Register where x, y and the prior are counted from: zero."""
        for buffer, length in (("x_origin", self.n_features), ("y_origin", 1)):
            self.register_buffer(buffer, like.new_zeros(length))
            self.register_buffer(f"prior_{buffer}", like.new_zeros(length))
        self.register_buffer("prior_effect_origin", like.new_zeros(self.n_features))

    @classmethod
    def for_data(
        cls: type[Regressions],
        x: Inputs,
        y: Targets,
        n_components: int,
        *,
        weights: Tensor | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Regressions:
        """Return experts whose default prior is on the location and scale of rows, and stays there in later fits.

        Args:
            x: inputs [N, D].
            y: outputs [N, 1] or [N].
            n_components: K.
            weights: how much each row counts [N]; None where each counts once.
            options: of the class.
        """
        x, y = arguments.inputs(x), arguments.outputs(y, x, n_outputs=1)
        options = {"device": x.device, **options, "scales": DataScales.of(x, y, weights)}
        return cls(n_components, x.shape[1], **options)

    @property
    def has_given_coefficients(self) -> bool:
        """Whether the user gave a prior of the coefficients."""
        return self.coefficient_mean is not None or self.coefficient_precision is not None

    @property
    def has_given_noise(self) -> bool:
        """Whether the user gave a prior of the noise."""
        return self.noise_shape is not None or self.noise_rate is not None

    @property
    def has_given_effects(self) -> bool:
        """Whether the user gave a prior of the covariance of the random effects."""
        return self.effect_degrees is not None or self.effect_scale is not None

    @property
    def has_random_intercept(self) -> bool:
        """Whether the constant is among the random effects, so that those of x can be counted from anywhere."""
        return INTERCEPT in self.random_effects

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """The prior mean of each component, in which alone their priors may differ."""
        return [tuple(mean.tolist()) for mean in self.prior_mean]

    @property
    def prior(self) -> RandomEffects:
        """The prior of every component, float64, counted from the origin as the posterior is."""
        here = self._origin
        away = Origin(here.x - self.prior_x_origin.double(), here.y - self.prior_y_origin.double(), intercept=True)
        return self._own_prior.from_origin(away, self.shear(here.x - self.prior_effect_origin.double()))

    @property
    def prior_from_zero(self) -> RandomEffects:
        """The prior for x and y as they are, float64."""
        own = Origin(self.prior_x_origin.double(), self.prior_y_origin.double(), intercept=True)
        return self._own_prior.from_zero(own, self.shear(-self.prior_effect_origin.double()))

    @property
    def _own_prior(self) -> RandomEffects:
        """The prior counted from where it is given: zero as the user gave it, the location of the data by default."""
        noises = self.n_components if self.noise_per_component else 1
        covariances = self.n_components if self.covariance_per_component else 1
        return RandomEffects(
            mean=self.prior_mean.double(),
            precision=self.prior_precision.double().expand(self.n_components, -1, -1),
            shape=self.prior_shape.double().expand(noises),
            rate=self.prior_rate.double().expand(noises),
            degrees=self.prior_degrees.double().expand(covariances),
            scale=self.prior_scale.double().expand(covariances, -1, -1),
        )

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Take origin and default prior from the data, and forget the data seen.

        x and y are counted from their medians. What the user did not give of the prior, nor by ``scales``, is set by
        the data; see :mod:`mixpyro.experts.weak_prior`.

        Args:
            x: inputs [N, D].
            y: outputs [N, 1] or [N].
            weights: how much each row counts [N]; None where each counts once.
        """
        x, y = self.check_data(x, y)
        found = DataScales.of(x, y, weights)
        self._count_from(found)
        if self.scales is None:
            self._scale_prior(found)
        self.forget()

    def hold_posterior(self, posterior: RandomEffects) -> None:
        """Put a posterior into the buffers, its scale positive definite in their dtype.

        Args:
            posterior: as :attr:`posterior` gives it. Its tensors may become the buffers.
        """
        scale = Full.representable(posterior.scale, self._buffers["posterior_scale"].dtype)  # type: ignore[union-attr]
        super().hold_posterior(posterior._replace(scale=scale))

    def prior_in_words(self) -> str:
        """Return the prior of coefficients, noises and random effects in a few words."""
        mean, precision = self.prior_mean[0], self.prior_precision.diagonal()
        origin = f"counted from x = {words(self.prior_x_origin)}, y = {words(self.prior_y_origin)}"
        noise = f"1/σ² Gamma({float(self.prior_shape):.4g}, {words(self.prior_rate)})"
        scale = words(self.prior_scale.diagonal())
        effects = f"covariance of random effects inverse Wishart({float(self.prior_degrees):.4g}, {scale})"
        return f"coefficients Normal({words(mean)}, 1 / {words(precision)}), {origin}; {noise}; {effects}"

    def cautions(self) -> list[str]:
        """Return a sentence for each part of the prior that outweighs many rows or groups, else nothing."""
        before, after = self.prior, self.posterior
        seen = 2.0 * (after.shape - before.shape)
        found = prior_cautions.of_noise(before.rate, after.rate - before.rate, seen, self.prior_rate)
        found += of_effects(before, after, self.random_effects)
        found += of_sizes(before, after) if self.has_random_intercept else []
        if not self.has_given_coefficients:
            return found
        own, both = (q.precision.diagonal(dim1=-2, dim2=-1) for q in (before, after))
        return found + prior_cautions.of_coefficients(own, both - own, seen, self.first_component)

    def _count_from(self, scales: DataScales) -> None:
        """Set the origin to the location of the data."""
        self.x_origin = scales.x.location.clone().to(self.x_origin)
        self.y_origin = scales.y.location.clone().to(self.y_origin)

    def _scale_prior(self, scales: DataScales) -> None:
        """Set what the user did not give of the prior."""
        variance = scales.y.scale.square()
        if not self.has_given_coefficients:
            of_x = torch.outer(scales.x.scale, scales.x.scale) * scales.x.correlation
            of_intercept = of_x.new_ones(1, 1) / scales.reach**2
            precision = COEFFICIENT_PRECISION * torch.block_diag(of_intercept, of_x) / variance
            self.prior_precision = precision.to(self.prior_precision)
            self.prior_x_origin = scales.x.location.clone().to(self.prior_x_origin)
            self.prior_y_origin = scales.y.location.clone().to(self.prior_y_origin)
        if not self.has_given_noise:
            self.prior_rate = (NOISE_RATE * variance[0]).to(self.prior_rate)
        if not self.has_given_effects:
            of_columns = scales.x.scale.square()
            if not self.has_random_intercept:  # Their values are counted from zero.
                of_columns = of_columns + scales.x.location.square()
            squares = torch.cat([of_columns.new_ones(1), of_columns])[self._effect_columns]
            self.prior_scale = (2.0 * NOISE_RATE * variance / squares).diag().to(self.prior_scale)
            self.prior_effect_origin = scales.x.location.clone().to(self.prior_effect_origin)

    def _priors_as_given(self) -> dict[str, Tensor]:
        """Return the prior's buffers, for data of location 0 and scale 1 where the user gave nothing."""
        of_coefficients = (GIVEN_MEAN, GIVEN_PRECISION) if self.has_given_coefficients else (0.0, COEFFICIENT_PRECISION)
        mean, precision = filled_in((self.coefficient_mean, self.coefficient_precision), of_coefficients)
        of_noise = (GIVEN_SHAPE, GIVEN_RATE) if self.has_given_noise else (NOISE_SHAPE, NOISE_RATE)
        shape, rate = filled_in((self.noise_shape, self.noise_rate), of_noise)
        q = len(self.random_effects)
        of_effects = (GIVEN_SHAPE, GIVEN_RATE) if self.has_given_effects else (EFFECT_SHAPE, NOISE_RATE)
        least = Full.least_degrees(q)
        defaults = (least + 2.0 * of_effects[0], 2.0 * of_effects[1])
        degrees, scale = filled_in((self.effect_degrees, self.effect_scale), defaults)
        return {
            "prior_mean": arguments.filled("coefficient_mean", mean, (self.n_components, self.n_columns)),
            "prior_precision": arguments.positive_definite("coefficient_precision", precision, self.n_columns),
            "prior_shape": scalar(arguments.positive_number("noise_shape", shape)),
            "prior_rate": scalar(arguments.positive_number("noise_rate", rate)),
            "prior_degrees": scalar(degrees_above(least, "the random effects less one", "effect_degrees", degrees)),
            "prior_scale": arguments.positive_definite("effect_scale", scale, q),
        }

    @property
    def _origin(self) -> Origin:
        """Where x and y are counted from, float64."""
        return Origin(self.x_origin.double(), self.y_origin.double(), intercept=True)

    @property
    def _effect_columns(self) -> list[int]:
        """Number of the column of [1, x] that each random effect multiplies."""
        return [0 if effect == INTERCEPT else int(effect) + 1 for effect in self.random_effects]

    def shear(self, x: Tensor) -> Tensor:
        """Return the matrix [q, q] from effects b to those of x counted from a point; identity without an intercept.

        Args:
            x: the point [D], counted from where x is for b.
        """
        matrix = torch.eye(len(self.random_effects), dtype=torch.float64, device=x.device)
        if self.has_random_intercept:
            of_columns = torch.cat([x.new_ones(1), x])[self._effect_columns].double()
            matrix[list(self.random_effects).index(INTERCEPT)] = of_columns
        return matrix
