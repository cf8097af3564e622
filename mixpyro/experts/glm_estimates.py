"""Estimates of generalised linear models, some of them common to components, and what can be said of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.experts.exponential_family import FamilyExperts
from mixpyro.experts.families import Family, Gaussian
from mixpyro.experts.linear_layers import pulled_together, separated_together
from mixpyro.experts.sharing import Shared, Sharing
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.tied_predictors import TiedPredictors
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Targets

# Turns of coefficients and scales in an iteration of a fit. With three of them it takes as many iterations.
TURNS_OF_FIT = 1


class GLMEstimates(FamilyExperts):
    """The parameters of :class:`mixpyro.experts.GLMExperts`; that class lists the arguments."""

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "coefficients": ("component", "output", "regressor"),
        "log_scale": ("component",),
    }
    shared_coefficients_estimate: nn.Parameter | None

    def __init__(
        self,
        n_components: int,
        n_features: int,
        family: Family,
        *,
        exposure: bool = False,
        prior_scale: float | None = None,
        shared: Shared = (),
        shared_within: Sequence[Sequence[int]] | None = None,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, n_features, 1, family, exposure=exposure, prior_scale=prior_scale, name=name)
        like = torch.empty(0, device=arguments.device(device), dtype=arguments.dtype(dtype))
        sharing = Sharing(
            shared,
            shared_within,
            n_components=self.n_components,
            n_features=self.n_features,
            has_scale=isinstance(family, Gaussian),
        )
        self._share(sharing)
        shape = self.n_components, family.n_predictors, len(sharing.own_columns)
        self.coefficients_estimate = nn.Parameter(like.new_zeros(shape))
        shape = len(sharing.sets), family.n_predictors, len(sharing.columns)
        common = nn.Parameter(like.new_zeros(shape)) if sharing.columns else None
        self.register_parameter("shared_coefficients_estimate", common)
        n_scales = len(family.scale_names)
        self.steps_of_fit = TURNS_OF_FIT if n_scales and not isinstance(family, Gaussian) else None
        first = like.new_tensor(family.first_scales[:n_scales]).log()
        n_each = len(sharing.sets) if sharing.has_scale else self.n_components
        scales = first.expand(n_each, n_scales).clone()
        self.log_scale = nn.Parameter(scales if n_scales > 1 else scales.flatten())

    def _share(self, sharing: Sharing) -> None:
        """Take over what components share."""
        self.sharing, self.shared, self.shared_within = sharing, sharing.shared, sharing.within
        if sharing.shared:
            self.site_axes = {  # type: ignore[misc]
                "coefficients": ("component", "output", "own_regressor"),
                "shared_coefficients": ("component_set", "output", "shared_regressor"),
                "log_scale": ("component_set" if sharing.has_scale else "component",),
            }

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The parameters that every component has of its own."""
        has_own = self.log_scale.numel() and not self.sharing.has_scale
        return ("coefficients_estimate", "log_scale") if has_own else ("coefficients_estimate",)

    def with_components(self, kept: Sequence[int]) -> "GLMEstimates":
        """Return a new bank of some of the components; arguments as :meth:`Experts.with_components`."""
        fewer = super().with_components(kept)
        assert isinstance(fewer, GLMEstimates)
        sets = self.sharing.used_sets(kept)
        for name in ("shared_coefficients_estimate", *(["log_scale"] if self.sharing.has_scale else [])):
            before = self._parameters[name]
            if before is not None:
                fewer._parameters[name] = nn.Parameter(before.detach()[sets].clone(), before.requires_grad)
        fewer._share(self.sharing.of_components(kept))
        return fewer

    @property
    def coefficients(self) -> Tensor:
        """Estimates c [K, C, 1 + D], the intercept first, without a graph; the Pyro site of this name may be a draw.

        The memory is that of the parameter ``coefficients_estimate`` where components share none of them.
        """
        return self._joined(self.coefficients_estimate, self.shared_coefficients_estimate).detach()

    def _joined(self, own: Tensor, common: Tensor | None) -> Tensor:
        """Return the coefficients of every component, from own ones and from those of each set."""
        return own if common is None else self.sharing.joined(own, common)

    @property
    def scale(self) -> Tensor:
        """Scales σ [K], or [K, S] of several; 1 for a family without."""
        if not self.family.scale_names:
            return self.coefficients_estimate.detach().new_ones(self.n_components)
        scale = self.log_scale.exp()
        return scale[self.sharing.set_of] if self.sharing.has_scale else scale

    @property
    def _noise(self) -> Tensor:
        return self.scale.reshape(self.n_components, -1)

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the coefficients, each once."""
        common = self.shared_coefficients_estimate
        return [self.coefficients_estimate] if common is None else [self.coefficients_estimate, common]

    @property
    def _has_free_coefficients(self) -> bool:
        """Whether own or shared coefficients are estimated."""
        common = self.shared_coefficients_estimate
        return self.coefficients_estimate.requires_grad or (common is not None and common.requires_grad)

    def _take(self, coefficients: Tensor) -> None:
        """Set the estimates to coefficients of all components."""
        parts = self.sharing.parted(coefficients)
        for estimate, value in zip((self.coefficients_estimate, self.shared_coefficients_estimate), parts, strict=True):
            if estimate is not None and estimate.requires_grad:
                estimate.copy_(value)

    def _functions(
        self, x: Inputs, y: Outputs, responsibilities: Responsibilities
    ) -> tuple[LinearPredictors | TiedPredictors, WeightedLikelihood]:
        """Return the functions that an M-step maximises, and the likelihood in them, which holds the noise."""
        sets = self.sharing.set_of if self.sharing.has_scale else None
        likelihood = WeightedLikelihood(
            self.family, y, self._exposures(x), responsibilities, self._noise, scale_sets=sets
        )
        common, regressors = self.shared_coefficients_estimate, self._regressors(x)
        options = {"n_predictors": self.family.n_predictors}
        if common is None or not self._has_free_coefficients:
            return LinearPredictors(regressors, likelihood, **options, prior_scale=self.prior_scale), likelihood
        each = LinearPredictors(regressors, likelihood, **options)
        free = {"own": self.coefficients_estimate.requires_grad, "common": common.requires_grad}
        selection = self.sharing.selection(**free, like=regressors)
        fixed = self.coefficients * (selection.sum(-1) == 0.0).unsqueeze(1)
        return TiedPredictors(each, selection, fixed, prior_scale=self.prior_scale), likelihood

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, K C (1 + D) if none is shared, and of noises of the Gaussian."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def effects(self) -> set[str]:
        """Names of the coefficients; none under a prior, which shrinks them, so that no test against zero holds."""
        names = {"coefficients_estimate", "shared_coefficients_estimate"}
        return names if self.prior_scale is None else set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return names such as ``component 0, intercept`` or, of several predictors, ``component 0, predictor 1, x0``.

        Args:
            feature_names: names of the columns of x.
        """
        several = self.family.n_predictors > 1
        predictors = [f", predictor {c + 1}" if several else "" for c in range(self.family.n_predictors)]
        columns = ["intercept", *feature_names[: self.n_features]]
        components = [f"component {self.first_component + k}" for k in range(self.n_components)]
        sets, of = self._set_names, self.sharing
        scaled = sets if of.has_scale else components
        return {
            "coefficients_estimate": [
                f"{k}{c}, {columns[column]}" for k in components for c in predictors for column in of.own_columns
            ],
            "shared_coefficients_estimate": [
                f"{one}{c}, {columns[column]}" for one in sets for c in predictors for column in of.columns
            ],
            "log_scale": [f"{k}, log {name}" for k in scaled for name in self.family.scale_names],
        }

    def linear_layers(self, x: Inputs) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the regressors and the coefficients, unless these are frozen or shared.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        if self.coefficients_estimate.requires_grad and self.shared_coefficients_estimate is None:
            yield 0, self._regressors(x), self.coefficients

    def separations(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return where the likelihood has its maximum at infinity; arguments as :meth:`FamilyExperts.separations`."""
        found = super().separations(x, y, responsibilities)
        if self.shared_coefficients_estimate is None or self.family.has_scale or self.prior_scale is not None:
            return found
        x, y = self.check_data(x, y)
        direction = separated_together(lambda r: self._functions(x, y, r)[0], self.coefficients, responsibilities)
        if direction is None:
            return found
        return [
            "the coefficients, of which components share some, have their maximum at infinity, as where x separates y "
            f"({direction.described()}); set `prior_scale`"
        ]

    def prior_warnings(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return where the prior moved estimates far; arguments as :meth:`FamilyExperts.separations`."""
        found = super().prior_warnings(x, y, responsibilities)
        if self.shared_coefficients_estimate is None or self.prior_scale is None:
            return found
        x, y = self.check_data(x, y)
        pull = pulled_together(lambda r: self._functions(x, y, r)[0], self.coefficients, responsibilities)
        return [] if pull is None else [self._pulled("the coefficients", pull)]

    @property
    def _set_names(self) -> list[str]:
        """A name for every set of components that share."""
        sets = self.sharing.sets
        return [self.named_together() if len(sets) == 1 else self.named_together(one) for one in sets]

    def axis_labels(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return labels along the axes of coefficients that are own or shared; nothing where none is shared.

        Args:
            feature_names: names of the columns of x.
        """
        if not self.shared:
            return {}
        columns, of = ["intercept", *feature_names[: self.n_features]], self.sharing
        return {
            "own_regressor": [columns[column] for column in of.own_columns],
            "shared_regressor": [columns[column] for column in of.columns],
            "component_set": self._set_names,
        }
