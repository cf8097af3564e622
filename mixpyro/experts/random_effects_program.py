"""Regressions with random effects in a Pyro program: their sites, and densities of whole groups."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Gamma, Independent, Normal
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro.conjugate.random_effects import RandomEffects
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.experts.random_effects_prior import RandomEffectsPrior
from mixpyro.groups import Groups
from mixpyro.numerics.design_matrix import joined_columns, with_intercept
from mixpyro.numerics.group_densities import GroupColumns, columns_of_groups, marginal_log_densities
from mixpyro.numerics.segments import Segments
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Inputs, Outputs


class EffectParameters(NamedTuple):
    """A draw of every component's parameters, for x and y as they are."""

    precision: Tensor  # τ [K]
    coefficients: Tensor  # β [K, E]
    spread: Tensor  # lower triangular root of the covariance of the effects [K, q, q]


class RandomEffectsProgram(RandomEffectsPrior):
    """What :class:`mixpyro.experts.RandomEffectsExperts` are in a Pyro program."""

    reads_groups: ClassVar[bool] = True
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": ("component",),
        "coefficients": ("component", "regressor"),
        "effect_conditional_precision": ("component",),
        "effect_regression": ("component",),
    }

    def columns(self, x: Inputs, y: Outputs) -> GroupColumns:
        """Return the columns of rows, each of which is a group of its own; arguments as :meth:`Experts.columns`."""
        return self.columns_of_objects(x, y, None)

    def columns_of_objects(self, x: Inputs, y: Outputs, segments: Segments | None) -> GroupColumns:
        """Return sums over the rows of each group, float64.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, 1].
            segments: rows of each group; None where every row is a group.
        """
        return columns_of_groups(self._rows(x, y), self._selection, self._segments(x, segments))

    def _rows(self, x: Inputs, y: Outputs) -> Float[Tensor, "F N"]:
        """Return ones, x and y as columns, counted from the origin."""
        return joined_columns((x, self.x_origin), (y, self.y_origin), ones=True)

    @staticmethod
    def _segments(x: Inputs, segments: Segments | None) -> Segments:
        """Return the rows of each group, every row a group by default."""
        return Segments(torch.ones(len(x), dtype=torch.long, device=x.device)) if segments is None else segments

    @property
    def _selection(self) -> Tensor:
        """Matrix [E, q] from the columns of u, counted from the origin, to those of Z, float64."""
        columns = self._effect_columns
        found = torch.eye(self.n_columns, dtype=torch.float64, device=self.x_origin.device)[:, columns].clone()
        if not self.has_random_intercept:  # Without it the effects of x are counted from zero.
            found[0] = self.x_origin.double()[[column - 1 for column in columns]]
        return found

    def _from_zero(self, posterior: RandomEffects) -> RandomEffects:
        """Return a posterior for x and y as they are."""
        return RandomEffects(*posterior).from_zero(self._origin, self.shear(-self.x_origin.double()))

    @pyro_method
    def model(self, x: Inputs) -> EffectParameters:
        """Sample the parameters from their prior; see :meth:`Experts.model`."""
        # Not by way of the origin: the conversion there and back loses digits of a weak prior.
        return self._parameter_sites(self.prior_from_zero, x.dtype)

    def sample(self, posterior: RandomEffects, dtype: torch.dtype) -> EffectParameters:
        """Sample the parameters for x and y as they are; arguments as :meth:`ConjugateExperts.sample`."""
        return self._parameter_sites(self._from_zero(posterior), dtype)

    def _parameter_sites(self, q: RandomEffects, dtype: torch.dtype) -> EffectParameters:
        """Sample τ, β and the covariance of the effects from a distribution for x and y as they are."""
        noise = Gamma(q.shape.to(dtype), q.rate.to(dtype)).to_event(1)
        precision = sample_parameter(self.site("precision"), noise)
        normal = multivariate_normal(q.mean.to(dtype), precision_matrix=q.precision.to(dtype)).to_event(1)
        coefficients = sample_parameter(self.site("coefficients"), normal)
        spread = q.effects.sample_spread(self.site("effect_"), dtype)
        precision = precision.expand(*precision.shape[:-1], self.n_components)
        return EffectParameters(
            precision, coefficients, spread.expand(*spread.shape[:-3], self.n_components, *spread.shape[-2:])
        )

    def likelihood(self, x: Inputs, parameters: EffectParameters, assignment: Tensor) -> Independent:
        """Return Normal(β_z'u, 1/τ_z + z'Ω_z⁻¹z) of rows of different groups; arguments as :meth:`Experts.likelihood`.

        Rows of one group depend on each other: :meth:`log_likelihood_of_groups` has their density.
        """
        coefficients = Vindex(parameters.coefficients)[..., assignment, :]
        precision = Vindex(parameters.precision)[..., assignment]
        spread = Vindex(parameters.spread)[..., assignment, :, :]
        u = with_intercept(x)
        of_effects = (u[:, self._effect_columns].unsqueeze(-2) @ spread).squeeze(-2).square().sum(-1)
        deviation = (precision.reciprocal() + of_effects).sqrt()
        return Normal((coefficients * u).sum(-1, keepdim=True), deviation.unsqueeze(-1)).to_event(1)

    def log_likelihood_of_groups(
        self, x: Inputs, y: Outputs, groups: Groups, parameters: EffectParameters, assignment: Tensor
    ) -> Tensor:
        """Return log Normal(y_g; X β_z, I/τ_z + Z Ω_z⁻¹ Z') of each group in nats, its effects integrated out.

        Args:
            x: inputs [N, D].
            y: outputs [N, 1].
            groups: of the rows.
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z of the groups [groups]. Under enumeration it is [K, 1, …].
        """
        columns = self.columns_of_objects(groups.sorted(x), groups.sorted(y), groups.segments)
        found = self.log_likelihoods_given(columns, parameters).mT
        number = torch.arange(len(groups), device=x.device)
        of_groups: Tensor = Vindex(found)[..., number, assignment].to(x.dtype)
        return of_groups

    def log_likelihoods_given(self, columns: GroupColumns, parameters: EffectParameters) -> Float[Tensor, "*R K N"]:
        """Return log p(y_g | x_g, k, parameters) of every group in nats [..., K, G], its effects integrated out.

        Args:
            columns: of groups, as :meth:`columns_of_objects` returns them.
            parameters: what :meth:`model` or :meth:`guide` returned, with any leading axes.
        """
        origin = self._origin
        coefficients = (parameters.coefficients.double() - origin.offset[0]) @ origin.back.mT
        root = self._selection @ (self.shear(origin.x) @ parameters.spread.double())
        return marginal_log_densities(columns, coefficients, parameters.precision.double(), root)

    def sample_rows_of_groups(
        self, x: Inputs, groups: Groups, parameters: EffectParameters, assignment: Tensor, plate: pyro.plate
    ) -> Float[Tensor, "*S N P"]:
        """Draw y of all rows [N, 1] in a Pyro program, with the effects of each group at ``<name>.standard_effects``.

        Args:
            x: inputs [N, D].
            groups: of the rows.
            parameters: what the model returned.
            assignment: z of the groups [groups].
            plate: over the rows.
        """
        q = len(self.random_effects)
        standard = Normal(x.new_zeros(len(groups), q), 1.0).to_event(2)
        drawn = sample_parameter(self.site("standard_effects"), standard)
        of_rows = drawn[..., groups.index, :]
        z = assignment[..., groups.index]
        spread = Vindex(parameters.spread)[..., z, :, :]
        effects = (spread @ of_rows.reshape(*of_rows.shape[:-3], *of_rows.shape[-2:], 1)).squeeze(-1)
        u = with_intercept(x)
        means = (Vindex(parameters.coefficients)[..., z, :] * u).sum(-1) + (effects * u[:, self._effect_columns]).sum(
            -1
        )
        deviation = Vindex(parameters.precision)[..., z].rsqrt()
        with plate:
            noise = Normal(means.unsqueeze(-1), deviation.unsqueeze(-1)).to_event(1)
            y: Tensor = pyro.sample(self.site("y"), noise)
        return y
