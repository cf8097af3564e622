"""Compare trees of components with each other and with a softmax, on simulated rows and on real tables.

Run as ``python -m tests.benchmarks.trees``; about five minutes on one core. Bounds in nats. "Rearranged" is what
``rearrange_tree`` makes of the fit, "grown" what ``grow_tree`` finds without being told the number of components.
"""

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    TreeGate,
    criteria,
    fit,
    grow_tree,
    rearrange_tree,
)
from mixpyro.experts import Experts
from mixpyro.gates import Gate
from mixpyro.numerics.trees import Tree, balanced_tree, caterpillar_tree, leaves_of

MakeExperts = Callable[[int], Experts]
# The truth, and the scale of its coefficients: the larger, the sharper are the boundaries between components.
SIMULATED: list[tuple[Tree, float]] = [(((0, 1), 2), 4.0), (((0, 1), (2, 3)), 4.0), ((0, (1, (2, 3))), 4.0)]


def simulated(tree: Tree, scale: float, seed: int) -> tuple[Tensor, Tensor, MakeExperts]:
    """Return 250 rows of lines on the leaves of a tree."""
    generator = torch.Generator().manual_seed(seed)
    gate, x = TreeGate(tree, 2), torch.randn(250, 2, generator=generator, dtype=torch.float64)
    coefficients = scale * torch.randn(gate.n_components - 1, 3, generator=generator, dtype=torch.float64)
    coefficients[:, 0] *= 0.2
    weights = gate.log_weights_at(x, coefficients).exp()
    leaves = torch.multinomial(weights, 1, generator=generator).squeeze(1)
    lines = torch.tensor([[2.0, 1.0, 0.0], [-2.0, 0.0, 1.0], [0.0, -1.0, -1.0], [1.0, 0.0, 0.0]]).double()[leaves]
    noise = 0.4 * torch.randn(250, generator=generator, dtype=torch.float64)
    return x, lines[:, 0] + (lines[:, 1:] * x).sum(-1) + noise, lambda k: LinearExperts(k, 2)


def tables() -> dict[str, tuple[Tensor, Tensor, MakeExperts]]:
    """Return petals of irises given their sepals, and two measurements of wines given two others; standardised."""
    from sklearn import datasets

    iris = _standardised(datasets.load_iris().data)
    wine, names = _standardised(datasets.load_wine().data), datasets.load_wine().feature_names
    inputs = wine[:, [names.index("alcohol"), names.index("hue")]]
    outputs = wine[:, [names.index("flavanoids"), names.index("proline")]]
    densities: MakeExperts = lambda k: GaussianExperts(k, 2)  # noqa: E731
    return {"iris": (iris[:, :2], iris[:, 2:], densities), "wine": (inputs, outputs, densities)}


def _standardised(values: Tensor) -> Tensor:
    """Return columns of mean zero and variance one."""
    columns = torch.as_tensor(values).double()
    return (columns - columns.mean(0)) / columns.std(0)


def report(name: str, x: Tensor, y: Tensor, experts: MakeExperts, shapes: list[Tree], n_restarts: int) -> None:
    """Print the bounds of fits with trees of given shapes, rearranged and grown, and with a softmax."""
    k = len(leaves_of(shapes[0]))
    gates: dict[str, Gate] = {str(shape): TreeGate(shape, x.shape[1]) for shape in shapes}
    for label, gate in (gates | {"softmax": BayesianSoftmaxGate(k, x.shape[1])}).items():
        begun = time.perf_counter()
        result = fit(MixtureOfExperts(gate, experts(k)), x, y, n_restarts=n_restarts, progress=False)
        said = f"{name}, K = {k}, {label}: {result.bound:.2f} by {result.n_reached_best()} of {len(result.runs)} runs"
        if isinstance(gate, TreeGate):
            other = rearrange_tree(result, x, y)
            said += f", rearranged {other.bound:.2f} {other.mixture.gate.tree}"
            result = other
        evidence = criteria(result, x, y).log_evidence
        print(f"{said}, log evidence {evidence:.2f}; {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    """Print the comparison."""
    warnings.simplefilter("ignore", RuntimeWarning)
    for tree, scale in SIMULATED:
        k = len(leaves_of(tree))
        shapes = [balanced_tree(k), caterpillar_tree(k)] if k > 3 else [balanced_tree(k)]
        x, y, experts = simulated(tree, scale, seed=0)
        report(f"simulated {tree}", x, y, experts, shapes, n_restarts=20)
    for name, (x, y, experts) in tables().items():
        for k in (3, 4):
            report(name, x, y, experts, [balanced_tree(k)], n_restarts=10)
        grown = grow_tree(experts, x, y, n_restarts=3)
        print(f"{name}, grown: {grown.tree}, bounds {[round(bound, 2) for bound in grown.bounds]}", flush=True)


if __name__ == "__main__":
    main()
