"""The ladder from a fit's linear response to its exact posterior."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from mixpyro import arguments
from mixpyro.arguments.numbers import LARGEST_SIZE
from mixpyro.diagnostics.response_draws import samples_by_site
from mixpyro.fitting.known_labels import known_components
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.groups import GroupIds
from mixpyro.intervals.approximate_posterior import approximate_posterior
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.linear_response import LinearResponse, linear_response
from mixpyro.intervals.relabelling import Relabelling
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.refinement.importance import FREEDOM, Sampling, Weighted, adapted
from mixpyro.refinement.nuts import N_CHAINS, sample_chains
from mixpyro.refinement.refined import Refined
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets

# k-hat below which a rung is left off at once, and up to which the last one of importance sampling is good enough.
GOOD, USABLE = 0.5, 0.7
# Rounds of importance sampling, the first by linear response.
MOST_ROUNDS = 4
# Nats below the best by which another optimum has so much of the posterior that it is worth a word: 5 %.
MOST_BELOW = 3.0
# Largest r-hat of chains that agree; Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
MOST_RHAT = 1.05
# Draws of a chain at least, of which halves are compared.
LEAST_OF_CHAIN = 20


@reads_rows
@arguments.with_default_errors
@torch.no_grad()
@arguments.outside_contexts
@arguments.checked(n_draws=arguments.integer_from(2, LARGEST_SIZE), seed=arguments.seed)
def refine(
    result: FitResult | MixtureOfExperts,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    groups: GroupIds | None = None,
    feature_names: Sequence[str] | None = None,
    gate_feature_names: Sequence[str] | None = None,
    n_draws: int = 1000,
    nuts: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Refined:
    """Draw a fit's parameters from the exact posterior near its optimum, by the cheapest method that can.

    The rungs of the ladder, each taken if the one before is not enough:

    1. draws from a t distribution by linear response, reweighted by p(y, θ) with the assignments summed out;
    2. adaptive importance sampling, up to four rounds, where k-hat is above 0.5, and good enough up to 0.7;
    3. NUTS from the fit, in the units of the covariance by linear response, two chains, where it stays above 0.7.

    Components keep the labels of the fit. Parameters that are estimated without a prior get a flat one.

    No rung looks for other modes of the posterior, beyond the same one with other labels, and k-hat does not see them:
    with a weak prior there may be one where a component has a few rows and hardly any noise. Restarts of
    :func:`~mixpyro.fit` do look: a caution says if another optimum has much of the posterior, and
    ``refine(result.at(1), x, y)`` draws from it, with the weights of the fit if it had any.

    Args:
        result: of :func:`~mixpyro.fit`, or a mixture at its optimum.
        x: inputs [N, D] that were fitted; those that the result keeps by default, with y and gate_x.
        y: outputs [N, P] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        groups: an id of the group of each row [N]; those of the fit by default, and None for a mixture without groups.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        gate_feature_names: G different names of the columns of ``gate_x``; x0, x1, … by default.
        n_draws: number of draws of the result, at least 2.
        nuts: whether NUTS, which takes minutes, may take over. Without, there are the draws of the last round, with a
            caution.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        progress: whether to show a progress bar after two seconds, and one of Pyro's for each chain of NUTS.

    Raises:
        TypeError: if ``result`` is neither.
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
    names = {"feature_names": feature_names, "gate_feature_names": gate_feature_names}
    response = linear_response(result, x, y, gate_x=gate_x, weights=weights, groups=groups, **names)
    log_joint = LogJoint(response.mixture, response.table)
    labels = response.table.labels
    relabelling = Relabelling(response.mixture, known_components(labels, response.mixture.n_components))
    ladder = _Ladder(response, log_joint, relabelling, _other_optima(result))
    with own_random_numbers(seed):
        return ladder.climb(n_draws, with_nuts=nuts, progress=progress)


class _Ladder:
    """What all rungs work with."""

    def __init__(
        self, response: LinearResponse, log_joint: LogJoint, relabelling: Relabelling, cautions: Sequence[str]
    ) -> None:
        self.response, self.log_joint, self.relabelling = response, log_joint, relabelling
        self.cautions = (*response.cautions, *cautions)
        self.covariance = response.matrices.finite_covariance
        self.first = approximate_posterior(response, log_joint, freedom=FREEDOM)
        self.sampling = Sampling(log_joint, relabelling, self.first)

    def climb(self, n_draws: int, *, with_nuts: bool, progress: bool) -> Refined:
        """Go up until a rung holds.

        Args:
            n_draws: of the result.
            with_nuts: whether NUTS may take over.
            progress: whether to show progress bars.
        """
        history: list[float] = []
        proposal = self.first
        with tqdm(total=MOST_ROUNDS, unit="round", delay=2.0, disable=not progress, leave=False) as bar:
            while not history or (history[-1] > GOOD and len(history) < MOST_ROUNDS):
                found = self.sampling.round(proposal, n_draws)
                proposal = adapted(found, self.covariance)
                history.append(found.khat)
                bar.update()
        if found.khat <= USABLE or not with_nuts:
            return self._by_weights(found, history, n_draws)
        return self._by_nuts(found, history, n_draws, progress)

    def _by_weights(self, found: Weighted, history: list[float], n_draws: int) -> Refined:
        """Return resampled draws."""
        effective = f"{found.n_effective:.0f} effective draws of {len(found.theta)}"
        if len(history) == 1:
            rung, why = "importance sampling", f"k-hat {found.khat:.2f} of draws by linear response, {effective}"
        else:
            rung = "adaptive importance sampling"
            why = f"k-hat {found.khat:.2f} after {len(history)} rounds, {history[0]:.2f} after the first, {effective}"
        cautions = []
        if found.khat > USABLE:
            cautions.append(
                f"k-hat is {found.khat:.2f}: reweighted draws miss a part of the posterior. Let NUTS take over."
            )
        return self._refined(found.resampled(n_draws).unsqueeze(0), rung, why, found.khat, cautions)

    def _by_nuts(self, found: Weighted, history: list[float], n_draws: int, progress: bool) -> Refined:
        """Return draws by NUTS."""
        others = found.resampled(N_CHAINS - 1)
        chains = sample_chains(
            self.log_joint,
            torch.cat([self.response.estimates.unsqueeze(0), others]),
            self.response.estimates,
            self.covariance,
            self.sampling.in_order,
            n_draws=max(LEAST_OF_CHAIN, -(-n_draws // N_CHAINS)),
            progress=progress,
        )
        why = (
            f"k-hat was still {found.khat:.2f} after {len(history)} rounds of importance sampling; "
            f"{N_CHAINS} chains, r-hat {chains.rhat:.2f}, {chains.n_divergent} divergent transitions"
        )
        cautions = []
        if not chains.rhat <= MOST_RHAT:
            cautions.append(
                f"the chains disagree, r-hat {chains.rhat:.2f}: the posterior has several modes, or too few draws were "
                "made. Look at each chain in `samples`, and at `result.optima`."
            )
        theta = chains.theta[:, : -(-n_draws // N_CHAINS)]
        return self._refined(theta, "NUTS", why, found.khat, cautions)

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
            cautions=(*self.cautions, *cautions),
        )


def _other_optima(result: FitResult | MixtureOfExperts) -> list[str]:
    """Return a caution for each optimum of other restarts that has a share of the posterior worth a word."""
    if not isinstance(result, FitResult) or not result.optima:
        return []
    best, found = result.optima[0], []
    for number, optimum in enumerate(result.optima[1:], 1):
        below = best.bound - optimum.bound
        if optimum.converged and not optimum.degeneracies and below < MOST_BELOW:
            share = 1.0 / (1.0 + math.exp(below))
            apart = f"{abs(below):.2g} nats {'lower' if below >= 0.0 else 'higher'}"
            found.append(
                f"another optimum is {apart} and has about {share:.0%} of the posterior of both, which "
                f"these draws leave out: see `result.optima[{number}]`{_advice(result, number)}."
            )
    return found


def _advice(result: FitResult, number: int) -> str:
    """Return how to draw from another optimum; nothing where components were known, which its mixture knows not."""
    if result.observed is not None:
        return ""
    weights = "" if result.weights is None else ", weights=…"
    groups = "" if result.groups is None else ", groups=result.groups"
    return f", and `refine(result.at({number}), x, y{weights}{groups})` for its own"
