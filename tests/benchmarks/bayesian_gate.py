"""Measure how near the posterior of a Bayesian softmax gate is to the exact one, and what its iterations cost.

Run as ``python -m tests.benchmarks.bayesian_gate``. Six problems with known components, by the tilted bound and by
quadrature, against importance sampling; then the seconds of a fit beside that of a SoftmaxGate.
"""

import time

import torch
from torch import Tensor

from mixpyro import BayesianSoftmaxGate, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, linear_response
from mixpyro.gates import Gate
from tests.gates.exact_softmax import PROBLEMS, exact, problem

SCALE = 3.0
# Nats that a step gains where the iterations have ended.
GAIN = 1e-6


def steps_and_bound(gate: BayesianSoftmaxGate, x: Tensor, r: Tensor, most: int = 40) -> tuple[int, float]:
    """Number of steps until the next gains nothing, and the bound."""
    bounds = []
    for _ in range(most):
        gate.maximise(x, r, n_steps=1)
        bounds.append(float(gate.partial_bound(x, r)))
        if len(bounds) > 1 and bounds[-1] - bounds[-2] < GAIN:
            break
    return len(bounds) - 1, bounds[-1]


def accuracy(number: int, *, quadrature: bool) -> str:
    """A line on one problem."""
    x, r = problem(number)
    gate = BayesianSoftmaxGate(r.shape[1], x.shape[1], prior_scale=SCALE, symmetric_prior=False, quadrature=quadrature)
    n_steps, bound = steps_and_bound(gate, x, r)
    q = gate.posterior
    truth = exact(x, r, q.mean[0], q.covariance[0], SCALE)
    ratios = q.covariance[0].diagonal().sqrt() / truth.deviation
    error = float(((q.mean[0] - truth.mean) / truth.deviation).abs().max())
    form = "quadrature" if quadrature else "tilted"
    return (
        f"{PROBLEMS[number]} {form}: {n_steps} steps, evidence − bound {truth.log_evidence - bound:.3f}, sd ratio "
        f"{float(ratios.min()):.3f} / {float(ratios.median()):.3f}, mean off by {error:.3f} sd, "
        f"ESS {truth.n_effective:.0f}"
    )


def response(number: int) -> str:
    """A line on the standard deviations by linear response on one problem."""
    x, r = problem(number)
    z, k = r.argmax(1), r.shape[1]
    y = 10.0 * z.double().unsqueeze(1) + torch.randn(len(z), 1).double()
    gate = BayesianSoftmaxGate(k, x.shape[1], prior_scale=SCALE, symmetric_prior=False)
    result = fit(MixtureOfExperts(gate, LinearExperts(k, x.shape[1])), x, y, observed=z, n_restarts=1, progress=False)
    q = gate.posterior
    truth = exact(x, torch.nn.functional.one_hot(z, k).double(), q.mean[0], q.covariance[0], SCALE)
    found = linear_response(result, x, y).standard_deviations[: q.mean.numel()]
    own, ratios = (sd / truth.deviation for sd in (q.covariance[0].diagonal().sqrt(), found))
    return (
        f"{PROBLEMS[number]} linear response: sd ratio {float(ratios.min()):.3f} to {float(ratios.max()):.3f}, "
        f"that of q {float(own.min()):.3f} to {float(own.max()):.3f}, ESS {truth.n_effective:.0f}"
    )


def seconds(gate: Gate, n_objects: int) -> float:
    """Of ten iterations of 20 restarts, their starts included."""
    torch.manual_seed(0)
    k, x = gate.n_components, torch.randn(n_objects, 2).double()
    y = (x[:, :1] * torch.randint(-2, 3, (n_objects, 1))) + 0.3 * torch.randn(n_objects, 1).double()
    start = time.perf_counter()
    fit(MixtureOfExperts(gate, LinearExperts(k, 2)), x, y, max_iterations=10, n_candidates=1, progress=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    for problem_number in range(len(PROBLEMS)):
        for by_quadrature in (False, True):
            print(accuracy(problem_number, quadrature=by_quadrature))
        print(response(problem_number))
    for rows in (300, 3000):
        for components in (2, 3, 5):
            bayesian, estimated = (
                seconds(BayesianSoftmaxGate(components, 2), rows),
                seconds(SoftmaxGate(components, 2, prior_scale=2.0), rows),
            )
            print(f"N={rows}, K={components}: {bayesian:.2f} s, SoftmaxGate {estimated:.2f} s")
