"""The Normal-Wishart prior of Gaussian densities: where it comes from, and what it outweighs."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.independent_columns import Diagonal, Spherical
from mixpyro.conjugate.normal_wishart import NormalWishart
from mixpyro.conjugate.tied_covariance import Tied
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.experts.linear_prior import GIVEN_PRECISION, GIVEN_RATE, GIVEN_SHAPE
from mixpyro.experts.prior_cautions import LARGE_SHARE, MANY
from mixpyro.experts.prior_numbers import degrees_above, scalar
from mixpyro.experts.weak_prior import COEFFICIENT_PRECISION, NOISE_RATE, NOISE_SHAPE, DataScales, checked_scales, words
from mixpyro.shapes import Inputs, Targets

STRUCTURES: dict[str, type[NormalWishart]] = {
    "full": Full,
    "diagonal": Diagonal,
    "spherical": Spherical,
    "tied": Tied,
}

# Not typing.Self, which run-time type checkers refuse in methods.
Densities = TypeVar("Densities", bound="GaussianPrior")


class GaussianPrior(ConjugateExperts):
    """What :class:`mixpyro.experts.GaussianExperts` do with their prior; that class lists the arguments."""

    posterior_buffers: ClassVar[Mapping[str, str]] = {"mean": "centred_means"}

    prior_mean: Tensor
    prior_mean_precision: Tensor
    prior_degrees: Tensor
    prior_scale: Tensor
    y_origin: Tensor
    centred_means: Tensor
    posterior_mean_precision: Tensor
    posterior_degrees: Tensor
    posterior_scale: Tensor

    def __init__(
        self,
        n_components: int,
        n_outputs: int,
        *,
        covariance: str = "full",
        mean: float | Sequence[float] | Tensor | None = None,
        mean_precision: float | None = None,
        degrees_of_freedom: float | None = None,
        scale: float | Sequence[float] | Tensor | None = None,
        scales: DataScales | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, 0, n_outputs, name=name)
        if not isinstance(covariance, str) or covariance not in STRUCTURES:
            raise ValueError(
                f"`covariance` must be one of {', '.join(map(repr, STRUCTURES))}; got {arguments.shown(covariance)}."
            )
        self.covariance, self.structure = covariance, STRUCTURES[covariance]
        arguments.no_modules(
            mean=mean, mean_precision=mean_precision, degrees_of_freedom=degrees_of_freedom, scale=scale
        )
        self.mean, self.mean_precision, self.degrees_of_freedom, self.scale = (
            mean,
            mean_precision,
            degrees_of_freedom,
            scale,
        )
        self.scales = checked_scales(scales, 0, self.n_outputs)
        like = torch.empty(0, device=arguments.device(device), dtype=arguments.dtype(dtype))
        for buffer, value in self._priors_as_given().items():
            self.register_buffer(buffer, value.to(like))
        arguments.representable("mean_precision", self.prior_mean_precision)
        arguments.representable(
            "scale", self.prior_scale.diagonal() if self.prior_scale.ndim == 2 else self.prior_scale
        )
        self.register_buffer("y_origin", like.new_zeros(self.n_outputs))
        if self.scales is not None:
            self.y_origin = self.scales.y.location.clone().to(self.y_origin)
            self._scale_prior(self.scales)
        self.register_posterior(self.prior, like=like)

    @classmethod
    def for_data(
        cls: type[Densities],
        x: Inputs,
        y: Targets,
        n_components: int,
        *,
        weights: Tensor | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Densities:
        """Return experts whose default prior is on the location and scale of rows, and stays there in later fits.

        Args:
            x: inputs [N, D], not read.
            y: outputs [N, P] or [N].
            n_components: K.
            weights: how much each row counts [N]; None where each counts once.
            options: further arguments of the class.
        """
        y = arguments.outputs(y, arguments.inputs(x))
        scales = DataScales.of(y[:, :0], y, weights)
        options = {"device": y.device, **options, "scales": scales}
        return cls(n_components, y.shape[1], **options)

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The posterior, without what all components share."""
        return self.posterior_names[:2] if self.is_tied else self.posterior_names

    @property
    def is_tied(self) -> bool:
        """Whether all components share one covariance; its degrees and scale have one entry then."""
        return issubclass(self.structure, Tied)

    @property
    def has_given_mean(self) -> bool:
        """Whether the user gave a prior of the means."""
        return self.mean is not None or self.mean_precision is not None

    @property
    def has_given_scale(self) -> bool:
        """Whether the user gave a prior of the covariances."""
        return self.degrees_of_freedom is not None or self.scale is not None

    def _priors_as_given(self) -> dict[str, Tensor]:
        """Return the prior's buffers, for data of location 0 and scale 1 where the user gave nothing."""
        precision = GIVEN_PRECISION if self.has_given_mean else COEFFICIENT_PRECISION
        precision = precision if self.mean_precision is None else self.mean_precision
        scale = 2.0 * (GIVEN_RATE if self.has_given_scale else NOISE_RATE)
        least = self.structure.least_degrees(self.n_outputs)
        degrees = least + 2.0 * (GIVEN_SHAPE if self.has_given_scale else NOISE_SHAPE)
        if self.degrees_of_freedom is not None:
            degrees = degrees_above(least, "the columns of y less one", "degrees_of_freedom", self.degrees_of_freedom)
        return {
            "prior_mean": arguments.vector("mean", 0.0 if self.mean is None else self.mean, self.n_outputs),
            "prior_mean_precision": scalar(arguments.positive_number("mean_precision", precision)),
            "prior_degrees": scalar(degrees),
            "prior_scale": self.structure.checked_scale(
                "scale", scale if self.scale is None else self.scale, self.n_outputs
            ),
        }

    def _scale_prior(self, scales: DataScales) -> None:
        """Set what the user did not give of the prior."""
        if not self.has_given_mean:
            self.prior_mean = scales.y.location.clone().to(self.prior_mean)
            self.prior_mean_precision = (COEFFICIENT_PRECISION / scales.reach**2).to(self.prior_mean_precision)
        if not self.has_given_scale:
            squares = 2.0 * NOISE_RATE * scales.y.scale.square()
            if not bool((squares > 0.0).all() and squares.isfinite().all()):
                raise ValueError(
                    f"`y` must have columns of scales that have squares in float64, 1e-150 to 1e150; got scales "
                    f"{words(scales.y.scale)}. Bring the columns to unit order, or give `scale`."
                )
            value = squares.log().mean().exp() if self.covariance == "spherical" else squares
            if issubclass(self.structure, Full):
                root = squares.sqrt()
                value = torch.outer(root, root) * scales.y.correlation
            self.prior_scale = self.structure.checked_scale("scale", value, self.n_outputs).to(self.prior_scale)

    @property
    def prior(self) -> NormalWishart:
        """The prior of every component, float64, its mean counted from the origin as the posterior's is."""
        mean = self.prior_mean.double() - self.y_origin.double()
        own, common = (mean, self.prior_mean_precision), (self.prior_degrees, self.prior_scale)
        n_common = 1 if self.is_tied else self.n_components
        parts = [(part, self.n_components) for part in own] + [(part, n_common) for part in common]
        return self.structure(*(part.double().expand(number, *part.shape) for part, number in parts))

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Take origin and default prior from the data, and forget the data seen so far.

        Args:
            x: inputs [N, D], not read.
            y: outputs [N, P] or [N], NaN where they were not observed.
            weights: how much each row counts [N]; None where each counts once.
        """
        x = self.check_inputs(x)
        y = arguments.outputs(y, x, n_outputs=self.n_outputs, may_be_missing=True)
        found = DataScales.of(x, y, weights)
        self.y_origin = found.y.location.clone().to(self.y_origin)
        if self.scales is None:
            self._scale_prior(found)
        self.forget()

    def prior_in_words(self) -> str:
        """Return the prior of means and covariances in a few words; numbers as for y as it is."""
        scale = self._variances(self.prior.scale)[0]
        return (
            f"means Normal({words(self.prior_mean)}, Λ⁻¹ / {float(self.prior_mean_precision):.4g}), Λ Wishart with "
            f"ν = {float(self.prior_degrees):.4g} and Ψ = {words(scale)} on the diagonal; "
            f"{'as given' if self.has_given_mean and self.has_given_scale else 'on the scale of the data'}"
        )

    def cautions(self) -> list[str]:
        """Return a sentence for each part of the prior that outweighs many objects, else nothing."""
        q, before = self.posterior, self.prior
        many = q.mean_precision - before.mean_precision > MANY
        distance = q.product(q.mean - before.mean, q.mean - before.mean) * q.per_component(before.mean_precision)
        total, own = (self._variances(scale) for scale in (q.scale, before.scale))
        share = torch.where(many.unsqueeze(-1), self._variances(distance) / total, 0.0)
        found = []
        if bool((share > LARGE_SHARE).any()):
            k = int(share.amax(-1).argmax())
            found.append(
                f"the prior of the means is far from the data: the distance from `mean` is {float(share.max()):.0%} of "
                f"the variance of component {k + self.first_component}. Give a nearer `mean` or a smaller "
                "`mean_precision`."
            )
        if bool(((total < 3.0 * own) & many.unsqueeze(-1)).any()):
            found.append(
                f"the prior says more of a covariance than the data do: `scale`, {float(own.max()):.3g}, is large for "
                "y in these units. Set it to about the covariance within a component times `degrees_of_freedom`."
            )
        outweighed = (before.mean_precision > q.mean_precision - before.mean_precision) & many
        if self.has_given_mean and bool(outweighed.any()):
            found.append(
                "the prior says more of a mean than the data do: `mean_precision`, "
                f"{float(self.prior_mean_precision):.3g}, is more objects than a component has. Make it smaller, or "
                "leave it out."
            )
        return found

    def _variances(self, scale: Tensor) -> Tensor:
        """Return the diagonal of a scale as a matrix [K, P]."""
        return self.structure.matrices(scale, self.n_outputs).diagonal(dim1=-2, dim2=-1)
