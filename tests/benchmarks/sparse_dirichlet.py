"""Up to which concentration a sparse Dirichlet prior leaves superfluous components without objects.

Run as ``python -m tests.benchmarks.sparse_dirichlet``; 70 seconds on one core. 1,000 rows of two clusters, eight
standard deviations apart, three data sets; six components of M parameters. Printed for each data set: components with
objects after four restarts, and from a start at the two clusters, and by how much the bound of the first is higher.
"""

import warnings

import torch
from torch import Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit

K, N = 6, 1000
# Columns and covariance, by the number of parameters of a component.
DENSITIES = {2: (1, "full"), 5: (2, "full"), 8: (4, "diagonal")}


def found(concentration: float, n_columns: int, covariance: str, seed: int) -> str:
    """Fit one data set twice."""
    y = torch.randn(N, n_columns, generator=torch.Generator().manual_seed(seed)).double()
    y[: N // 2] += 8.0
    at_clusters = torch.eye(K).double()[(torch.arange(N) >= N // 2).long()] + 1e-3

    def fitted(start: Tensor | None) -> tuple[int, float]:
        experts = GaussianExperts(K, n_columns, covariance=covariance)
        mixture = MixtureOfExperts(DirichletGate(K, concentration=concentration), experts)
        options = {"n_restarts": 4, "seed": seed, "max_iterations": 3000, "progress": False}
        result = fit(mixture, y[:, :0], y, initial_responsibilities=start, **options)  # type: ignore[arg-type]
        return result.n_used, result.bound

    (restarts, bound), (clusters, other) = fitted(None), fitted(at_clusters)
    return f"{restarts}, {clusters} ({bound - other:+.1f})"


def main() -> None:
    """Print a table."""
    print("| M | concentration | three data sets |\n| --- | --- | --- |")
    for n_parameters, (n_columns, covariance) in DENSITIES.items():
        threshold = (n_parameters + 1) / 2
        for concentration in (0.01, 0.1, 0.5, 1.0, 0.6 * threshold, 0.9 * threshold, 1.2 * threshold, 2.0 * threshold):
            cells = "; ".join(found(concentration, n_columns, covariance, seed) for seed in range(3))
            print(f"| {n_parameters} | {concentration:.3g} | {cells} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
