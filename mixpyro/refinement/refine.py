"""The ladder from a fit's linear response to its exact posterior."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from mixpyro import arguments
from mixpyro.diagnostics.random_numbers import own_random_numbers
from mixpyro.diagnostics.response_draws import samples_by_site
from mixpyro.fitting.known_labels import known_components
from mixpyro.fitting.result import FitResult
from mixpyro.intervals.approximate_posterior import approximate_posterior
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.linear_response import LinearResponse, linear_response
from mixpyro.intervals.relabelling import Relabelling
from mixpyro.refinement import nuts
from mixpyro.refinement.importance import FREEDOM, Weighted, in_first_order, rounds
from mixpyro.refinement.refined import Refined
from mixpyro.shapes import GateInputs, Inputs, Targets

# k-hat below which a rung is left off at once, and up to which the last one of importance sampling is good enough.
GOOD, USABLE = 0.5, 0.7
# Rounds of importance sampling, the first by linear response.
MOST_ROUNDS = 4
# Largest r-hat of chains that agree; Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
MOST_RHAT = 1.05


@torch.no_grad()
@arguments.outside_contexts
def refine(
    result: FitResult,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    weights: Float[Tensor, " N"] | None = None,
    feature_names: Sequence[str] | None = None,
    gate_feature_names: Sequence[str] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Refined:
    """Draw a fit's parameters from the exact posterior near its optimum, by the cheapest method that can.

    The rungs of the ladder, each taken if k-hat says that the one before is not enough:

    1. draws from a t distribution by linear response, reweighted by p(y, θ) with the assignments summed out;
    2. adaptive importance sampling, up to four rounds, where k-hat is above 0.5;
    3. NUTS from the fit, in the units of the covariance by linear response, two chains, where it stays above 0.7.

    Components keep the labels of the fit. Parameters that are estimated without a prior get a flat one. Another optimum
    of the posterior, beyond the same one with other labels, is not looked for: restarts of :func:`~mixpyro.fit` do.

    Args:
        result: of :func:`~mixpyro.fit`; all parameters must be shared by all objects.
        x: inputs [N, D] that were fitted.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        gate_feature_names: G different names of the columns of ``gate_x``; x0, x1, … by default.
        n_draws: number of draws of the result, at least 2.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        progress: whether to show a progress bar after two seconds, and one of Pyro's for each chain of NUTS.

    Raises:
        TypeError: if ``result`` is no result of a fit.
        ValueError: as :func:`~mixpyro.linear_response`.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, JMLR 25 (72);
        Cornuet, Marin, Mira, Robert (2012), Adaptive multiple importance sampling;
        Hoffman, Gelman (2014), The No-U-turn sampler, JMLR 15.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
        >>> x = torch.linspace(-1, 1, 60).double().unsqueeze(1)
        >>> y = torch.where(torch.arange(60) % 2 == 0, 1 + x[:, 0], 1 - x[:, 0]) + 0.3 * torch.sin(50 * x[:, 0])
        >>> result = fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, seed=0, progress=False)
        >>> refined = refine(result, x, y, seed=0, progress=False)
        >>> refined.draws.shape, refined.khat < 0.7
        (torch.Size([1000, 7]), True)
    """
    n_draws = arguments.integer("n_draws", n_draws, least=2)
    names = {"feature_names": feature_names, "gate_feature_names": gate_feature_names}
    response = linear_response(result, x, y, gate_x=gate_x, weights=weights, **names)
    log_joint = LogJoint(response._mixture, response._table)
    labels = response._table.labels
    relabelling = Relabelling(response._mixture, known_components(labels, response._mixture.n_components))
    ladder = _Ladder(response, log_joint, relabelling, progress)
    with own_random_numbers(response.estimates.device, seed):
        return ladder.climb(n_draws)


class _Ladder:
    """What all rungs work with."""

    def __init__(self, response: LinearResponse, log_joint: LogJoint, relabelling: Relabelling, progress: bool) -> None:
        self.response, self.log_joint, self.relabelling = response, log_joint, relabelling
        self.progress = progress
        self.covariance = response._matrices.finite_covariance
        self.first = approximate_posterior(response, log_joint, freedom=FREEDOM)

    def climb(self, n_draws: int) -> Refined:
        """Go up until a rung holds.

        Args:
            n_draws: of the result.
        """
        history: list[float] = []
        with tqdm(total=MOST_ROUNDS, unit="round", delay=2.0, disable=not self.progress, leave=False) as bar:
            steps = rounds(self.log_joint, self.relabelling, self.first, self.covariance, most=MOST_ROUNDS)
            for found in steps:
                bar.update()
                history.append(found.khat)
                if found.khat <= GOOD:
                    break
        if history[-1] <= USABLE:
            return self._by_weights(found, history, n_draws)
        return self._by_nuts(found, history, n_draws)

    def _by_weights(self, found: Weighted, history: list[float], n_draws: int) -> Refined:
        """Return resampled draws."""
        effective = f"{found.n_effective:.0f} effective draws of {len(found.theta)}"
        if len(history) == 1:
            rung, why = "importance sampling", f"k-hat {history[0]:.2f} of draws by linear response, {effective}"
        else:
            rung = "adaptive importance sampling"
            why = f"k-hat {history[-1]:.2f} after {len(history)} rounds, {history[0]:.2f} after the first, {effective}"
        return self._refined(found.resampled(n_draws).unsqueeze(0), rung, why, history[-1])

    def _by_nuts(self, found: Weighted, history: list[float], n_draws: int) -> Refined:
        """Return draws by NUTS."""
        others = found.resampled(nuts.N_CHAINS - 1)
        chains = nuts.sample(
            self.log_joint,
            torch.cat([self.response.estimates.unsqueeze(0), others]),
            self.response.estimates,
            self.covariance,
            lambda theta: in_first_order(self.relabelling, self.first, theta),
            n_draws=-(-n_draws // nuts.N_CHAINS),
            progress=self.progress,
        )
        why = (
            f"k-hat was still {history[-1]:.2f} after {len(history)} rounds of importance sampling; "
            f"{nuts.N_CHAINS} chains, r-hat {chains.rhat:.2f}, {chains.n_divergent} divergent transitions"
        )
        cautions = []
        if chains.rhat > MOST_RHAT:
            cautions.append(
                f"the chains disagree, r-hat {chains.rhat:.2f}: the posterior has several modes, or too few draws were "
                "made. Look at each chain in `samples`, and at `result.optima`."
            )
        return self._refined(chains.theta, "NUTS", why, history[-1], cautions)

    def _refined(
        self, theta: Float[Tensor, "C S Q"], rung: str, why: str, khat: float, cautions: Sequence[str] = ()
    ) -> Refined:
        """Return the result of a rung."""
        values = self.log_joint.parameters.values(theta.flatten(0, 1))
        chains = {name: value.unflatten(0, theta.shape[:2]) for name, value in values.items()}
        samples = samples_by_site(self.log_joint.mixture, chains)
        return Refined(
            names=self.response.names,
            draws=theta.flatten(0, 1),
            rung=rung,
            why=why,
            khat=khat,
            samples=samples,
            cautions=tuple(cautions),
        )
