"""Check whether the gates' posteriors are calibrated, by simulation; print and draw histograms of ranks.

Run as ``python -m tests.benchmarks.calibration [picture.png]``; one minute on one core. Weights are drawn from the
gate's prior. Data are drawn from known experts, one Normal each. The rank of the true weight among draws from q is
uniform if q is the posterior. A U-shaped histogram means that q is too narrow, a hill that it is too wide. The softmax
gate has no posterior; a Normal with its estimates and standard errors is used instead.

References:
    Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with simulation-based
    calibration.
"""

import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from mixpyro import DirichletGate, MarginalObjectDirichletGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates.conjugate import ConjugateGate

N_COMPONENTS, N_OBJECTS, N_DRAWS, N_BINS = 3, 60, 199, 20
MEANS = torch.tensor([-2.0, 0.0, 2.0]).double()


def iterated(gate: ConjugateGate | SoftmaxGate, x: Tensor, log_likelihood: Tensor) -> Tensor:
    """Fit the gate by coordinate ascent with known experts; return the responsibilities [N, K]."""
    r = torch.full_like(log_likelihood, 1.0 / N_COMPONENTS)
    for _ in range(200):
        if isinstance(gate, SoftmaxGate):
            gate.maximise(x, r)
        else:
            gate.update(gate.statistics(x, r))
        before, r = r, (gate.expected_log_weights(x, objects=slice(None)) + log_likelihood).softmax(-1).detach()
        if float((r - before).abs().max()) < 1e-8:
            break
    return r


def observe(weights: Tensor, generator: Generator) -> Tensor:
    """Draw data from weights [N, K]; return log p(yᵢ | k) [N, K]."""
    z = torch.multinomial(weights, 1, generator=generator)[:, 0]
    y = MEANS[z] + torch.randn(len(z), generator=generator, dtype=torch.float64)
    return -0.5 * (y.unsqueeze(1) - MEANS) ** 2


def rank(draws: Tensor, truth: Tensor) -> np.ndarray:
    """Count the draws [S, ...] that lie below the truth [...]."""
    return np.atleast_1d((draws < truth).sum(0).numpy()).ravel()


def global_gate(generator: Generator) -> np.ndarray:
    """Return the rank of the first weight."""
    gate, x = DirichletGate(N_COMPONENTS), torch.zeros(N_OBJECTS, 0).double()
    truth = torch.distributions.Dirichlet(gate.prior_concentration).sample()
    iterated(gate, x, observe(truth.expand(N_OBJECTS, -1), generator))
    return rank(torch.distributions.Dirichlet(gate.posterior_concentration).sample((N_DRAWS,))[:, 0], truth[0])


def object_gate(kind: Callable[..., ObjectDirichletGate], concentration: float) -> Callable[[Generator], np.ndarray]:
    """Return a simulation that gives the rank of every object's first weight."""

    def ranks(generator: Generator) -> np.ndarray:
        gate, x = kind(N_COMPONENTS, concentration=concentration), torch.zeros(N_OBJECTS, 0).double()
        truth = torch.distributions.Dirichlet(gate.prior_concentration).sample((N_OBJECTS,))
        r = iterated(gate, x, observe(truth, generator))
        draws = torch.distributions.Dirichlet(gate.posterior_concentration).sample((N_DRAWS,))
        if kind is MarginalObjectDirichletGate:
            # Its posterior is a mixture of Dirichlets: for each z, one count is added to that component.
            z = torch.multinomial(r, N_DRAWS, replacement=True).mT
            counted = gate.prior_concentration + torch.nn.functional.one_hot(z, N_COMPONENTS)
            draws = torch.distributions.Dirichlet(counted).sample()
        return rank(draws[..., 0], truth[:, 0])

    return ranks


def softmax_gate(generator: Generator) -> np.ndarray:
    """Return the ranks of the coefficients under a Normal(0, 1) prior."""
    gate = SoftmaxGate(N_COMPONENTS, 1, prior_scale=1.0)
    x = torch.randn(N_OBJECTS, 1, generator=generator, dtype=torch.float64)
    truth = torch.randn(gate.coefficients.shape, generator=generator, dtype=torch.float64)
    u = torch.cat([torch.ones_like(x), x], 1)
    weights = torch.cat([torch.zeros_like(x), u @ truth.mT], 1).softmax(-1)
    r = iterated(gate, x, observe(weights, generator))
    errors = gate.standard_errors(x, r)
    return rank(torch.distributions.Normal(gate.coefficients.detach(), errors).sample((N_DRAWS,)), truth)


GATES: dict[str, Callable[[Generator], np.ndarray]] = {
    "Dirichlet": global_gate,
    "per object, mean field, γ = 10": object_gate(ObjectDirichletGate, 10.0),
    "per object, mean field, γ = 1": object_gate(ObjectDirichletGate, 1.0),
    "per object, exact, γ = 1": object_gate(MarginalObjectDirichletGate, 1.0),
    "softmax, standard errors": softmax_gate,
}


def histogram(ranks: np.ndarray) -> np.ndarray:
    """Return the share of the ranks in each bin, relative to a uniform rank."""
    counts, _ = np.histogram(ranks, bins=N_BINS, range=(-0.5, N_DRAWS + 0.5))
    return counts / counts.mean()


def main(picture: str | None, n_data_sets: int = 400) -> None:
    """Print one histogram per gate, in tenths of the height of a uniform rank, and draw them."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore", RuntimeWarning)
    found = {}
    for name, simulate in GATES.items():
        generator = Generator().manual_seed(1)
        found[name] = histogram(np.concatenate([simulate(generator) for _ in range(n_data_sets)]))
        outer = 0.5 * (found[name][0] + found[name][-1])
        print(f"{name:<32}outer bins {outer:.2f}  " + " ".join(f"{10 * height:2.0f}" for height in found[name]))
    if picture is not None:
        draw(found).savefig(picture, dpi=110)


def draw(found: dict[str, np.ndarray]) -> Figure:
    """Draw one panel per gate."""
    figure = Figure(figsize=(13, 2.8), layout="constrained")
    for ax, (name, heights) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        ax.bar((np.arange(N_BINS) + 0.5) / N_BINS, heights, width=1 / N_BINS, color="#0072B2", edgecolor="white")
        ax.axhline(1.0, color="0.3", linestyle="--", linewidth=1)
        ax.set_title(name, fontsize=9)
        ax.set(xlim=(0, 1), xlabel="Rank of the truth")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("Share (uniform: 1)")
    return figure


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
