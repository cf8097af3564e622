"""Bayesian linear regressions with random effects of groups, one a component, with conjugate updates."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Gamma, Independent, MultivariateNormal, Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro.conjugate.random_effects import EffectStatistics, GroupColumns, RandomEffects, marginal_log_densities
from mixpyro.experts.random_effects_prior import INTERCEPT, RandomEffectsPrior
from mixpyro.groups import GroupIds, Groups
from mixpyro.numerics.cholesky import cholesky, inverted
from mixpyro.numerics.design_matrix import columns_from, with_intercept
from mixpyro.numerics.group_products import matrices_of_groups, products_of_groups
from mixpyro.numerics.segments import Segments
from mixpyro.part import State
from mixpyro.pyro_internals.plates import sample_parameter
from mixpyro.shapes import Design, Inputs, Outputs, Targets


class EffectParameters(NamedTuple):
    """A draw of every component's parameters, for x and y as they are."""

    precision: Tensor  # τ [K]
    coefficients: Tensor  # β [K, E]
    spread: Tensor  # lower triangular root of the covariance of the effects [K, q, q]


class EffectsOfGroups(NamedTuple):
    """Random effects of G groups if they are of component k, for x as it is."""

    means: Tensor  # [G, K, q]
    covariances: Tensor  # [G, K, q, q]


class RandomEffectsExperts(RandomEffectsPrior):
    """y_g | x, z_g = k, b_g ~ Normal(X βₖ + Z b_g, 1/τₖ) for the rows of group g, with b_g ~ Normal(0, Ωₖ⁻¹).

    u = [1, x] are the rows of X, and Z has some of its columns: the random effects. The priors are independent,
    βₖ ~ Normal(m₀, Λ₀⁻¹), τₖ ~ Gamma(a₀, b₀) and Ωₖ ~ Wishart(Ψ₀⁻¹, ν₀). All rows of a group have one component: pass
    ``groups`` to :func:`mixpyro.fit` and wherever rows are. Effects are integrated out of every update, and an iteration
    reads sums over the rows of each group that are computed once: it costs as much for long groups as for short ones.
    Methods of the experts that take rows without groups take every row as a group of its own.

    The posterior is q(β) q(τ) q(Ω) q(b | β): variances are taken as independent of each other and of the coefficients,
    which makes their intervals too short; those of :func:`mixpyro.coefficients` are by linear response.

    What you leave out of the prior is weak on the location and scale of the data: see
    :mod:`mixpyro.experts.weak_prior`. Coefficients have its precision divided by the squared scale of y, and the
    covariance of the effects, counted from the location of x, has ν₀ = q and a diagonal Ψ₀ of 0.006 squared scales
    of y per squared scale of x. A prior that you give is used as it is, in units of x and y counted from zero. A
    caution says where it outweighs the data.

    Args:
        n_components: K.
        n_features: D, the number of columns of x; zero for a constant.
        random_effects: columns of x, by number from 0, and "intercept", whose coefficients vary from group to group.
        noise_per_component: whether every component has its own noise; one for all otherwise.
        covariance_per_component: whether every component has its own covariance of effects; one for all otherwise.
        coefficient_mean: m₀, a number, or numbers [E] or [K, E], the intercept first; zero if only the precision is
            given, on the location of the data if neither is.
        coefficient_precision: Λ₀, a number, E of them for a diagonal, or a positive definite matrix [E, E]; 0.01 if
            only the mean is given.
        noise_shape: a₀, above zero; 1 if only the rate is given.
        noise_rate: b₀, above zero, in squared units of y; 0.01 if only the shape is given.
        effect_degrees: ν₀, above q − 1; q + 1 if only the scale is given.
        effect_scale: Ψ₀, a number, q of them for a diagonal, or a positive definite matrix [q, q], in squared units of
            the effects; 0.02 if only the degrees are given. Ψ₀ / ν₀ is roughly the covariance expected.
        scales: location and scale of x, then of y, for what is left out of the prior; by default those of the data.
        name: prefix of the Pyro sites ``<name>.precision``, ``<name>.coefficients``,
            ``<name>.effect_conditional_precision`` and, of several effects, ``<name>.effect_regression``. The last two
            are those of :class:`~mixpyro.GaussianExperts` for the covariance of the effects.
        device: of the experts' state.
        dtype: of their state; results have the dtype of x.

    Attributes:
        centred_coefficients: posterior mean of the βₖ counted from the origin [K, E].
        centred_precision: Λ of the same [K, E, E].
        posterior_shape: a [K], or [1] with one noise for all components.
        posterior_rate: b, in the same shape.
        posterior_degrees: ν [K], or [1] with one covariance for all components.
        posterior_scale: Ψ [K, q, q] of effects counted from the origin of x if the intercept is among them.
        x_origin: [D], and y_origin [1]: where x and y are counted from.

    References:
        Laird, Ware (1982), Random-effects models for longitudinal data;
        Grün, Leisch (2008), FlexMix version 2: finite mixtures with concomitant variables and varying and constant
        parameters (``FLXMRlmm``);
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.1.

    Example:
        >>> experts = RandomEffectsExperts(1, 1, ["intercept", 0])
        >>> experts.coefficients.shape, experts.effect_covariances.shape
        (torch.Size([1, 2]), torch.Size([1, 2, 2]))
    """

    reads_groups: ClassVar[bool] = True
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": ("component",),
        "coefficients": ("component", "regressor"),
        "effect_conditional_precision": ("component",),
        "effect_regression": ("component",),
    }

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The prior means, and the posterior, but for what components share."""
        noise = ("posterior_shape", "posterior_rate") if self.noise_per_component else ()
        effects = ("posterior_degrees", "posterior_scale") if self.covariance_per_component else ()
        return ("prior_mean", "centred_coefficients", "centred_precision", *noise, *effects)

    @property
    def posterior_from_zero(self) -> RandomEffects:
        """The posterior for x and y as they are, float64."""
        return self._from_zero(self.posterior)

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean of the βₖ [K, E] for y as it is on [1, x] as it is, the intercept first."""
        return self.posterior_from_zero.mean

    @property
    def coefficient_standard_deviations(self) -> Tensor:
        """Posterior standard deviations of the coefficients [K, E]."""
        root = inverted(cholesky(self.posterior_from_zero.precision))
        return root.square().sum(-2).sqrt()

    @property
    def noise_standard_deviations(self) -> Tensor:
        """Square root of the posterior mean of the noise variance 1/τ [K]; infinite where a ≤ 1."""
        q = self.posterior
        return (q.rate / (q.shape - 1.0).clamp_min(0.0)).sqrt().expand(self.n_components)

    @property
    def effect_covariances(self) -> Tensor:
        """Posterior mean of the Ωₖ⁻¹ [K, q, q] for x as it is; infinite where ν ≤ q + 1."""
        return self.posterior_from_zero.effects.covariance.expand(self.n_components, -1, -1)

    def quantity_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return names of coefficients, log precisions, and log precisions and regressions of the random effects.

        Args:
            feature_names: names of the columns of x.
        """
        columns = [INTERCEPT, *feature_names[: self.n_features]]
        effects = [f"random {columns[number]}" for number in self._effect_columns]
        components = [f"component {self.first_component + k}, " for k in range(self.n_components)]
        of_noise = components if self.noise_per_component else [""]
        of_effects = components if self.covariance_per_component else [""]
        given = ["", *[" given those before it"] * (len(effects) - 1)]
        names = [f"{k}{column}" for k in components for column in columns] + [f"{k}log precision" for k in of_noise]
        named = list(zip(effects, given, strict=True))
        names += [f"{k}log precision of {effect}{words}" for k in of_effects for effect, words in named]
        pairs = [(effects[p], effects[j]) for p in range(len(effects)) for j in range(p)]
        return names + [f"{k}regression of {one} on {other}" for k in of_effects for one, other in pairs]

    def noises(self) -> Float[Tensor, "K 1"]:
        """Return 1 / √E[τ], which is finite for every posterior."""
        return self.posterior.noise.mean.rsqrt().expand(self.n_components).unsqueeze(-1)

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
        if segments is None:
            segments = Segments(torch.ones(len(x), dtype=torch.long, device=x.device))
        ones = x.new_ones(1, len(x))
        rows = torch.cat([ones, columns_from(x, self.x_origin), columns_from(y, self.y_origin)])
        products = products_of_groups(rows, segments)
        selection = self._selection
        crossed = torch.einsum("eq,ecg->qcg", selection, matrices_of_groups(products, len(rows))[:-1])
        effects = torch.einsum("eq,peg->pqg", selection, crossed[:, :-1])
        return GroupColumns(products[:1], products, crossed.contiguous(), effects.contiguous())

    def log_likelihood(self, columns: GroupColumns, posterior: RandomEffects) -> Float[Tensor, "*R K N"]:
        """Return what each group adds to the bound, its effects integrated out.

        Args:
            columns: of groups, as :meth:`columns_of_objects` returns them.
            posterior: q, with any leading axes of runs.
        """
        return RandomEffects(*posterior).log_likelihoods(columns)

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Tensor:
        """Return the same of rows that are groups of their own [N, K], in x's dtype; arguments as of other experts."""
        return super().expected_log_likelihood(x, y).to(x.dtype)

    def statistics_of(self, columns: GroupColumns, responsibilities: Float[Tensor, "*R K N"]) -> EffectStatistics:
        """Return the sums over groups under the experts' own posterior.

        Args:
            columns: of groups, as :meth:`columns_of_objects` returns them.
            responsibilities: [..., K, N].
        """
        return self.posterior.statistics(columns, responsibilities)

    def sums(
        self, columns: GroupColumns, responsibilities: Float[Tensor, "*R K N"], state: State | None = None
    ) -> EffectStatistics:
        """Return the statistics of R runs.

        Args:
            columns: of groups, as :meth:`columns_of_objects` returns them.
            responsibilities: [..., K, N].
            state: of R runs, whose effects are integrated out; the experts' own by default.
        """
        posterior = self.posterior if state is None else state.posterior
        found: EffectStatistics = posterior.statistics(columns, responsibilities)
        return found

    def effects_of_groups(self, x: Inputs, y: Targets, groups: GroupIds) -> EffectsOfGroups:
        """Return mean and covariance of the random effects of groups, given their rows and each component.

        Weigh the components with the responsibilities of :meth:`mixpyro.MixtureOfExperts.assign`.

        Args:
            x: inputs [N, D].
            y: outputs [N, 1] or [N].
            groups: an id of the group of each row [N].
        """
        x, y = self.check_data(x, y)
        found = Groups.of(groups, like=x)
        columns = self.columns_of_objects(found.sorted(x), found.sorted(y), found.segments)
        means, covariances = self.posterior.effects_of_groups(columns)
        shear = self.shear(-self.x_origin.double())
        means, covariances = means @ shear.mT, shear @ covariances @ shear.mT
        means, covariances = (part.transpose(0, 1).to(x.dtype) for part in (means, covariances))
        return EffectsOfGroups(means, covariances)

    def predict_rows(self, x: Inputs, groups: GroupIds, effects: EffectsOfGroups) -> Float[Tensor, "N K"]:
        """Return βₖ'u + b_g'z of rows of known groups [N, K], for each component.

        Args:
            x: inputs [N, D].
            groups: number of the group of each row [N], of those that the effects are of.
            effects: as :meth:`effects_of_groups` returns them, of G groups.
        """
        x = self.check_inputs(x)
        numbers = torch.as_tensor(groups, device=x.device)
        if numbers.shape != (len(x),) or numbers.is_floating_point() or bool((numbers >= len(effects.means)).any()):
            raise ValueError(
                f"`groups` must be {len(x)} integers below {len(effects.means)}, numbers of groups in the order of "
                "their first rows; got others."
            )
        z = with_intercept(x)[:, self._effect_columns]
        return self.predict(x)[..., 0] + (effects.means[numbers] * z.unsqueeze(1)).sum(-1)

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return Normals of y of rows of new groups, batch shape [N, K] and event shape [1].

        Their means and variances are those of the predictive distribution; its tails are a little longer.

        Args:
            x: inputs [N, D].
        """
        means, variances = self._population(x)
        return Normal(means.unsqueeze(-1), variances.sqrt().unsqueeze(-1)).to_event(1)

    def predict(self, x: Inputs) -> Tensor:
        """Return βₖ'u [N, K, 1], the mean over groups; arguments as :meth:`Experts.predict`."""
        return self._population(x)[0].unsqueeze(-1)

    def log_prob_of_objects(self, x: Inputs, y: Outputs, segments: Segments | None) -> Float[Tensor, "K N"]:
        """Return the log density of each group's rows together, the Normal whose margins are :meth:`predictive`.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, 1].
            segments: rows of each group; None where every row is a group.
        """
        columns = self.columns_of_objects(x, y, segments)
        q = self.posterior
        own = inverted(cholesky(q.precision)).mT
        root = torch.cat([own, self._selection @ cholesky(self._effect_variance(q))], dim=-1)
        return marginal_log_densities(columns, q.mean, self._noise_variance.reciprocal(), root)

    def design(self, x: Inputs) -> Design:
        """Return u = [1, x − origin] [N, E].

        Args:
            x: inputs [N, D].
        """
        return with_intercept(columns_from(x, self.x_origin).mT)

    def _population(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """Return mean and variance of a row of a new group [N, K], in x's dtype."""
        u, q = self.design(x).double(), self.posterior
        means = u @ q.mean.mT + self.y_origin.double()
        whitened = u @ inverted(cholesky(q.precision)).mT  # [K, N, E]
        effects = (u @ self._selection) @ cholesky(self._effect_variance(q))
        spread = whitened.square().sum(-1) + effects.square().sum(-1)
        return means.to(x.dtype), (spread.mT + self._noise_variance).to(x.dtype)

    @property
    def _noise_variance(self) -> Tensor:
        """E 1/τ [K], or 1 / E τ where it is infinite."""
        q = self.posterior
        excess = torch.where(q.shape > 1.0, q.shape - 1.0, q.shape)
        return (q.rate / excess).expand(self.n_components)

    def _effect_variance(self, q: RandomEffects) -> Tensor:
        """Return E Ω⁻¹ [K, q, q], or (E Ω)⁻¹ where it is infinite."""
        excess = q.degrees - q.n_effects - 1.0
        finite = torch.where(excess > 0.0, excess, q.degrees)
        return (q.scale / finite[:, None, None]).expand(self.n_components, -1, -1)

    def _from_zero(self, posterior: RandomEffects) -> RandomEffects:
        """Return a posterior for x and y as they are."""
        return RandomEffects(*posterior).from_zero(self._origin, self.shear(-self.x_origin.double()))

    @property
    def _selection(self) -> Tensor:
        """Matrix [E, q] from the columns of u, counted from the origin, to those of Z, float64."""
        columns = self._effect_columns
        found = torch.eye(self.n_columns, dtype=torch.float64, device=self.x_origin.device)[:, columns].clone()
        if not self.has_random_intercept:  # Without it the effects of x are counted from zero.
            found[0] = self.x_origin.double()[[column - 1 for column in columns]]
        return found

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
        normal = MultivariateNormal(q.mean.to(dtype), precision_matrix=q.precision.to(dtype)).to_event(1)
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
    ) -> Outputs:
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
