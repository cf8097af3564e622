"""The Normal-Gamma prior of Bayesian regressions: where it comes from, and where it is counted from."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.normal_gamma import NormalGamma
from mixpyro.experts import prior_cautions
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.experts.prior_cautions import MANY
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

# The other one where one of a pair is given alone.
GIVEN_MEAN, GIVEN_PRECISION, GIVEN_SHAPE, GIVEN_RATE = 0.0, 0.01, 1.0, 0.01

# Not typing.Self, which run-time type checkers refuse in methods.
Regressions = TypeVar("Regressions", bound="LinearPrior")


class LinearPrior(ConjugateExperts):
    """What :class:`mixpyro.experts.LinearExperts` do with their prior; that class lists the arguments."""

    posterior_buffers: ClassVar[Mapping[str, str]] = {"mean": "centred_coefficients", "precision": "centred_precision"}

    prior_mean: Tensor
    prior_precision: Tensor
    prior_shape: Tensor
    prior_rate: Tensor  # [] or [P]
    prior_x_origin: Tensor
    prior_y_origin: Tensor
    x_origin: Tensor
    y_origin: Tensor
    centred_coefficients: Tensor
    centred_precision: Tensor
    posterior_shape: Tensor
    posterior_rate: Tensor

    def __init__(
        self,
        n_components: int,
        n_features: int,
        n_outputs: int = 1,
        *,
        intercept: bool = True,
        coefficient_mean: float | Sequence[float] | Tensor | None = None,
        coefficient_precision: float | Sequence[float] | Tensor | None = None,
        noise_per_component: bool = True,
        noise_per_output: bool = True,
        noise_shape: float | None = None,
        noise_rate: float | Sequence[float] | Tensor | None = None,
        scales: DataScales | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, n_features, n_outputs, name=name)
        self.intercept = arguments.flag("intercept", intercept)
        self.noise_per_component = arguments.flag("noise_per_component", noise_per_component)
        self.noise_per_output = arguments.flag("noise_per_output", noise_per_output)
        self.n_columns = self.n_features + int(self.intercept)
        if self.n_columns == 0:
            raise ValueError("`n_features` must be at least 1 without an intercept; got 0.")
        arguments.no_modules(
            coefficient_mean=coefficient_mean,
            coefficient_precision=coefficient_precision,
            noise_shape=noise_shape,
            noise_rate=noise_rate,
        )
        self.coefficient_mean, self.coefficient_precision = coefficient_mean, coefficient_precision
        self.noise_shape, self.noise_rate = noise_shape, noise_rate
        self.scales = checked_scales(scales, self.n_features, self.n_outputs)
        like = torch.empty(0, device=arguments.device(device), dtype=arguments.dtype(dtype))
        for buffer, value in self._priors_as_given().items():
            self.register_buffer(buffer, value.to(like))
        arguments.representable("coefficient_precision", self.prior_precision.diagonal())
        arguments.representable("noise_rate", self.prior_rate)
        for buffer, length in (("x_origin", self.n_features), ("y_origin", self.n_outputs)):
            self.register_buffer(buffer, like.new_zeros(length))
            self.register_buffer(f"prior_{buffer}", like.new_zeros(length))
        if self.scales is not None:
            self._count_from(self.scales)
            self._scale_prior(self.scales)
        self.register_posterior(self._own_prior.from_origin(self._from_prior_origin), like=like)

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
            y: outputs [N, P] or [N].
            n_components: K.
            weights: how much each row counts [N]; None where each counts once.
            options: of the class.
        """
        x, y = arguments.inputs(x), arguments.outputs(y, x)
        scales = DataScales.of(x, y, weights, from_zero=not options.get("intercept", True))
        options = {"device": x.device, **options, "scales": scales}
        return cls(n_components, x.shape[1], y.shape[1], **options)

    @property
    def has_given_coefficients(self) -> bool:
        """Whether the user gave a prior of the coefficients."""
        return self.coefficient_mean is not None or self.coefficient_precision is not None

    @property
    def has_given_noise(self) -> bool:
        """Whether the user gave a prior of the noise."""
        return self.noise_shape is not None or self.noise_rate is not None

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """The prior mean of each component, in which alone their priors may differ."""
        return [tuple(mean.flatten().tolist()) for mean in self.prior_mean]

    @property
    def prior(self) -> NormalGamma:
        """The prior of every component and output, float64, counted from the origin as the posterior is."""
        return self._own_prior.from_origin(self._from_prior_origin)

    @property
    def prior_from_zero(self) -> NormalGamma:
        """The prior for x and y as they are, float64."""
        return self._own_prior.from_zero(self._prior_origin)

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Take origin and default prior from the data, and forget the data seen.

        x and y are counted from their medians, or without an intercept from zero. What the user did not give of the
        prior, nor by ``scales``, is set by the data; see :mod:`mixpyro.experts.weak_prior`.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N], NaN where they were not observed.
            weights: how much each row counts [N]; None where each counts once.
        """
        x = self.check_inputs(x)
        y = arguments.outputs(y, x, n_outputs=self.n_outputs, may_be_missing=True)
        found = DataScales.of(x, y, weights, from_zero=not self.intercept)
        self._count_from(found)
        if self.scales is None:
            self._scale_prior(found)
        self.forget()

    def _count_from(self, scales: DataScales) -> None:
        """Set the origin to the location of the data; it stays zero without an intercept."""
        if self.intercept:
            self.x_origin = scales.x.location.clone().to(self.x_origin)
            self.y_origin = scales.y.location.clone().to(self.y_origin)

    def _scale_prior(self, scales: DataScales) -> None:
        """Set what the user did not give of the prior."""
        if not self.has_given_coefficients:
            of_x = torch.outer(scales.x.scale, scales.x.scale) * scales.x.correlation
            of_intercept = of_x.new_ones(int(self.intercept), int(self.intercept)) / scales.reach**2
            precision = COEFFICIENT_PRECISION * torch.block_diag(of_intercept, of_x)
            self.prior_precision = precision.to(self.prior_precision)
            if scales.constant is not None:
                near = scales.y.location.unsqueeze(-1) * scales.constant
                self.prior_mean = near.to(self.prior_mean).expand_as(self.prior_mean).clone()
            if self.intercept:
                self.prior_x_origin = scales.x.location.clone().to(self.prior_x_origin)
                self.prior_y_origin = scales.y.location.clone().to(self.prior_y_origin)
        if not self.has_given_noise:
            squares = scales.y.scale.square()
            shared = squares if self.noise_per_output else squares.log().mean().exp()
            self.prior_rate = (NOISE_RATE * shared).to(self.prior_rate)

    def _priors_as_given(self) -> dict[str, Tensor]:
        """Return the prior's buffers, for data of location 0 and scale 1 where the user gave nothing."""
        of_coefficients = (GIVEN_MEAN, GIVEN_PRECISION) if self.has_given_coefficients else (0.0, COEFFICIENT_PRECISION)
        mean, precision = filled_in((self.coefficient_mean, self.coefficient_precision), of_coefficients)
        of_noise = (GIVEN_SHAPE, GIVEN_RATE) if self.has_given_noise else (NOISE_SHAPE, NOISE_RATE)
        shape, rate = filled_in((self.noise_shape, self.noise_rate), of_noise)
        axes = (self.n_components, self.n_outputs, self.n_columns)
        number = arguments.positive_number("noise_shape", shape)
        return {
            "prior_mean": arguments.filled("coefficient_mean", mean, axes),
            "prior_precision": arguments.positive_definite("coefficient_precision", precision, self.n_columns),
            "prior_shape": torch.tensor(number, dtype=torch.float64, device="cpu"),
            "prior_rate": self._checked_rate(rate),
        }

    def _checked_rate(self, value: Any) -> Tensor:  # noqa: ANN401 (a user's argument)
        """Return b₀, a number or one for each output."""
        several = value.numel() > 1 if isinstance(value, Tensor) else arguments.is_iterable(value)
        if self.noise_per_output and several and not isinstance(value, str):
            rates = arguments.positive_vector("noise_rate", value, self.n_outputs)
            return rates if len(rates) > 1 else rates[0]
        return torch.tensor(arguments.positive_number("noise_rate", value), dtype=torch.float64, device="cpu")

    def prior_in_words(self) -> str:
        """Return the prior of coefficients and noises in a few words."""
        mean, precision = self.prior_mean[0], self.prior_precision.diagonal(dim1=-2, dim2=-1)
        noise = f"1/σ² Gamma({float(self.prior_shape):.4g}, {words(self.prior_rate)})"
        origin = f"counted from x = {words(self.prior_x_origin)}, y = {words(self.prior_y_origin)}"
        return f"coefficients Normal({words(mean)}, σ² / {words(precision)}), {origin}; {noise}"

    def cautions(self) -> list[str]:
        """Return a sentence for each part of the prior that outweighs many objects, else nothing."""
        before, after = self._prior_of_regression, self.regression
        seen = 2.0 * (after.shape - before.shape)
        of_noise = after.rate - before.rate
        share = torch.where(seen.unsqueeze(-1) > MANY, 0.5 * self._distance_from(before) / after.rate, 0.0)
        found = prior_cautions.of_distance(share, self.first_component)
        found += prior_cautions.of_noise(before.rate, of_noise, seen.unsqueeze(-1), self.prior_rate)
        if not self.has_given_coefficients:
            return found
        own, both = (q.precision.diagonal(dim1=-2, dim2=-1)[:, : self._n_given_columns] for q in (before, after))
        return found + prior_cautions.of_coefficients(own, both - own, seen, self.first_component)

    def _distance_from(self, before: NormalGamma) -> Tensor:
        """Return how far coefficients are from their prior mean, squared, in the shape of the noises."""
        given = slice(self._n_given_columns)
        held = before._replace(mean=before.mean[..., given], precision=before.precision[..., given, given])
        return self.regression._replace(mean=self.regression.mean[..., given]).distance_from(held)

    @property
    def regression(self) -> NormalGamma:
        """The posterior of coefficients and noises, float64, counted from the origin."""
        return NormalGamma(*self.posterior)

    @property
    def _prior_of_regression(self) -> NormalGamma:
        """The prior that the regression's posterior was updated from."""
        return self.prior

    @property
    def _n_given_columns(self) -> int:
        """Number of columns of the design, the first ones, whose prior precision is not learnt."""
        return self.n_columns

    @property
    def _own_prior(self) -> NormalGamma:
        """The prior counted from its own origin: zero as the user gave it, the location of the data by default."""
        rows = self.n_components if self.noise_per_component else 1
        columns = self.n_outputs if self.noise_per_output else 1
        return NormalGamma(
            mean=self.prior_mean.double(),
            precision=self.prior_precision.double().expand(self.n_components, -1, -1),
            shape=self.prior_shape.double().expand(rows),
            rate=self.prior_rate.double().expand(rows, columns),
        )

    @property
    def _origin(self) -> Origin:
        """Where x and y are counted from."""
        return Origin(self.x_origin, self.y_origin, self.intercept)

    @property
    def _prior_origin(self) -> Origin:
        """Where the prior's coefficients are counted from."""
        return Origin(self.prior_x_origin, self.prior_y_origin, self.intercept)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:  # noqa: ANN401
        """Take over a state, also of a file from before priors had an origin: its prior is as the user gave it."""
        rate = state.get(f"{prefix}prior_rate")
        if isinstance(rate, Tensor):
            self.prior_rate = self.prior_rate.new_zeros(rate.shape)
        if isinstance(rate, Tensor) and f"{prefix}prior_x_origin" not in state:
            state |= {f"{prefix}prior_x_origin": self.prior_x_origin, f"{prefix}prior_y_origin": self.prior_y_origin}
            self.coefficient_mean, self.noise_rate = state[f"{prefix}prior_mean"], rate
        super()._load_from_state_dict(state, prefix, *others)

    @property
    def _from_prior_origin(self) -> Origin:
        """The origin, counted from the prior's."""
        here, own = self._origin, self._prior_origin
        return Origin(here.x.double() - own.x.double(), here.y.double() - own.y.double(), self.intercept)
