"""NUTS on a mixture's parameters, the assignments summed out, from a fit and in the units of its covariance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import gelman_rubin
from torch import Tensor

from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.proposals import root_of
from mixpyro.numerics.random_numbers import nothing_drawn

N_CHAINS = 2
N_WARMUP = 200


class Chains(NamedTuple):
    """Draws of all chains."""

    theta: Float[Tensor, "C S Q"]
    rhat: float  # largest of any coordinate
    n_divergent: int


def sample_chains(
    log_joint: LogJoint,
    starts: Float[Tensor, "C Q"],
    location: Float[Tensor, " Q"],
    covariance: Float[Tensor, "Q Q"],
    in_order: Callable[[Tensor], Tensor],
    *,
    n_draws: int,
    progress: bool,
) -> Chains:
    """Draw from p(θ | y) by NUTS, one chain from each start.

    Args:
        log_joint: log p(y, θ).
        starts: one for each chain.
        location: of the fit.
        covariance: of the coordinates, which makes them nearly uncorrelated and of variance one.
        in_order: takes the components of draws to one order.
        n_draws: of each chain.
        progress: whether to show Pyro's progress bars.
    """
    root = root_of(covariance)
    potential = _Potential(log_joint, location, root)
    draws, n_divergent = [], 0
    for start in starts:
        at = torch.linalg.solve_triangular(root, (start - location).unsqueeze(-1), upper=False).squeeze(-1)
        kernel = _Kernel(potential_fn=potential, adapt_mass_matrix=True, max_tree_depth=7)  # type: ignore[no-untyped-call]
        mcmc = MCMC(
            kernel,
            n_draws,
            warmup_steps=N_WARMUP,
            initial_params={"theta": at},
            disable_progbar=not progress,
            disable_validation=True,
        )
        with torch.enable_grad():
            mcmc.run()
        draws.append(in_order(location + mcmc.get_samples()["theta"] @ root.mT))
        n_divergent += len(mcmc.diagnostics()["divergences"]["chain 0"])
    theta = torch.stack(draws)
    # Each chain in two halves: a chain that has not settled disagrees with itself.
    halves = torch.cat(theta.split(n_draws // 2, dim=1)[:2]) if n_draws > 3 else theta
    return Chains(theta, float(gelman_rubin(halves, chain_dim=0, sample_dim=1).max()), n_divergent)


class _Kernel(NUTS):
    """NUTS whose steps of the integrator, which draw nothing, run at full speed."""

    def _build_basetree(self, *args: Any) -> Any:  # noqa: ANN401 (a tree of Pyro's)
        with nothing_drawn():
            return super()._build_basetree(*args)  # type: ignore[no-untyped-call]


class _Potential:
    """−log p(y, θ) at θ = location + root · z, with a gradient for which no graph of all rows is kept."""

    def __init__(self, log_joint: LogJoint, location: Tensor, root: Tensor) -> None:
        self.log_joint, self.location, self.root = log_joint, location, root

    def __call__(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the potential energy in nats."""
        return _InBlocks.apply(parameters["theta"], self)  # type: ignore[no-untyped-call]

    def with_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the potential energy, and its gradient."""
        value, gradient = self.log_joint.with_gradient((self.location + self.root @ z).unsqueeze(0))
        return -value.squeeze(0), -(self.root.mT @ gradient.squeeze(0))


class _InBlocks(torch.autograd.Function):
    """A potential energy that computes its gradient with its value."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, potential: _Potential) -> Tensor:  # noqa: ANN401
        value, gradient = potential.with_gradient(z.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None
