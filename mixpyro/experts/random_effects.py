"""Bayesian linear regressions with random effects of groups, one a component, with conjugate updates."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro.distributions import Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.random_effects import EffectStatistics, RandomEffects
from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.experts.random_columns import INTERCEPT
from mixpyro.experts.random_effects_program import RandomEffectsProgram
from mixpyro.fitted_part import State
from mixpyro.groups import GroupIds, groups_of
from mixpyro.numerics.cholesky import cholesky, inverted
from mixpyro.numerics.design_matrix import columns_from, with_intercept
from mixpyro.numerics.group_densities import GroupColumns, columns_of_groups
from mixpyro.numerics.group_rows import predictive_log_densities
from mixpyro.numerics.segments import Segments
from mixpyro.shapes import Design, Inputs, Outputs, Targets


class EffectsOfGroups(NamedTuple):
    """Random effects of G groups if they are of component k, for x as it is."""

    means: Tensor  # [G, K, q]
    covariances: Tensor  # [G, K, q, q]


class RandomEffectsExperts(RandomEffectsProgram):
    """y_g | x, z_g = k, b_g ~ Normal(X βₖ + Z b_g, 1/τₖ) for the rows of group g, with b_g ~ Normal(0, Ωₖ⁻¹).

    u = [1, x] are the rows of X, and Z has some of its columns: the random effects. The priors are independent,
    βₖ ~ Normal(m₀, Λ₀⁻¹), τₖ ~ Gamma(a₀, b₀) and Ωₖ ~ Wishart(Ψ₀⁻¹, ν₀). All rows of a group have one component: pass
    ``groups`` to :func:`mixpyro.fit` and wherever rows are. Effects are integrated out of every update. An iteration
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

    def effect_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return names of the random effects.

        Args:
            feature_names: names of the columns of x.
        """
        columns = [INTERCEPT, *feature_names[: self.n_features]]
        return [f"random {columns[number]}" for number in self._effect_columns]

    def quantity_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return names of coefficients, log precisions, and log precisions and regressions of the random effects.

        Args:
            feature_names: names of the columns of x.
        """
        columns = [INTERCEPT, *feature_names[: self.n_features]]
        effects = self.effect_names(feature_names)
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

    def log_likelihood(  # type: ignore[override]
        self, columns: GroupColumns, posterior: RandomEffects
    ) -> Float[Tensor, "*R K N"]:
        """Return what each group adds to the bound, its effects integrated out.

        Args:
            columns: of groups, as :meth:`columns_of_objects` returns them.
            posterior: q, with any leading axes of runs.
        """
        return RandomEffects(*posterior).log_likelihoods(columns)

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Tensor:
        """Return the same of rows that are groups of their own [N, K], in x's dtype; arguments as of other experts."""
        return super().expected_log_likelihood(x, y).to(x.dtype)

    def statistics_of(  # type: ignore[override]
        self, columns: GroupColumns, responsibilities: Float[Tensor, "*R K N"]
    ) -> EffectStatistics:
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
        found = groups_of(groups, like=x)
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
        if not isinstance(effects, EffectsOfGroups):
            raise TypeError(f"`effects` must be what `effects_of_groups` returned; got {arguments.shown(effects)}.")
        numbers = torch.as_tensor(arguments.of_numbers("groups", groups), device=x.device)
        is_number = (numbers >= 0) & (numbers < len(effects.means))
        if numbers.shape != (len(x),) or numbers.is_floating_point() or not bool(is_number.all()):
            raise ValueError(
                f"`groups` must be {len(x)} integers from 0 to {len(effects.means) - 1}, numbers of groups by "
                f"the order of their first rows; got {arguments.shown(groups)}."
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
        return IndependentOutputs(Normal(means.unsqueeze(-1), variances.sqrt().unsqueeze(-1)))

    def predict(self, x: Inputs) -> Tensor:
        """Return βₖ'u [N, K, 1], the mean over groups; arguments as :meth:`Experts.predict`."""
        return self._population(x)[0].unsqueeze(-1)

    def log_prob_of_objects(self, x: Inputs, y: Outputs, segments: Segments | None) -> Float[Tensor, "K objects"]:
        """Return the log density of each group's rows together, the Normal whose margins are :meth:`predictive`.

        Args:
            x: inputs [rows, D].
            y: outputs [rows, 1].
            segments: rows of each group; None where every row is a group.
        """
        rows, segments, q = self._rows(x, y).double(), self._segments(x, segments), self.posterior
        columns = columns_of_groups(rows, self._selection, segments)
        own = inverted(cholesky(q.precision)).mT
        root = torch.cat([own, self._selection @ cholesky(self._effect_variance(q))], dim=-1)
        return predictive_log_densities(rows, columns, segments, q.mean, self._noise_variance.reciprocal(), root)

    def design(self, x: Inputs) -> Design:
        """Return u = [1, x − origin] [N, E].

        Args:
            x: inputs [N, D].
        """
        return with_intercept(columns_from(self.check_inputs(x), self.x_origin).mT)

    def _population(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """Return mean and variance of a row of a new group [N, K], in x's dtype."""
        u, q = with_intercept(columns_from(x, self.x_origin).mT).double(), self.posterior
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
