"""One iteration of variational EM, Dirichlet gate and linear experts, beside the hand-written loop; what float32 costs.

What an iteration must do at d = 10, K = 8, for one row of float32: read x and y and write r, 76 bytes, 8 ns at the
10 GB/s of one core here. In products: whiten, 2 · K (E + 1) (E + 1) = 2304 operations in float32 for E = 11, and sums
Σ r u u' and Σ r u y, 2 · K (E + 1) E = 2112 in float64. Small as the matrices are, a core does 40 · 10⁹ of the first a
second and 20 · 10⁹ of the second: 60 + 110 ns. Measured on one core, an iteration takes about 350 ns a row, twice that
limit: weighting u takes 50, squares and their sums 30, copies that turn rows into columns, converted to float64, 50,
the exponential, the logarithm and sums over components 30. Float64 is kept for the sums, for the noise is what a
difference of them leaves over.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.benchmarks.speed.hand_written import Ours, Problem, problem, seconds_of_one
from tests.benchmarks.speed.harness import Row
from tests.benchmarks.speed.memory import peak_mib, rows_in_a_file

D, K = 10, 8


def rows(*, tiny: bool) -> Iterator[Row]:
    """Time, memory and precision."""
    for n_objects in (500,) if tiny else (100_000, 1_000_000):
        data = problem(n_objects, D, K)
        ours, by_hand = seconds_of_one(data.x, data.y, K, repeats=1 if tiny else 7)
        size = f"N={n_objects}, d={D}, K={K}"
        yield Row("variational EM, an iteration", size, ours, "by hand", by_hand, "<= 0.6")
    with rows_in_a_file(n_objects) as path:
        peak = peak_mib(path, n_objects, mapped=False, apart=not tiny)
    yield Row("a fit's memory beside the data, MiB", size, peak, "allowed", 512.0, "<= 1")
    for name, shift in (("unit columns", 0.0), ("a column of mean 1e4", 1e4)):
        error = error_of_float32(n_objects, shift, n_iterations=2 if tiny else 10)
        yield Row(f"error of float32, {name}", size, error, "allowed", 1e-4, "<= 1")


def error_of_float32(n_objects: int, shift: float, *, n_iterations: int) -> float:
    """The largest relative error of the bound, the coefficients and the noises, for what is float32 to begin with.

    From a start in which the components are told apart: near a saddle any two roundings part, in float64 too.
    """
    data = problem(n_objects, D, K)
    data.x[:, 0] += shift
    results = [_results(data, dtype, n_iterations) for dtype in (torch.float32, torch.float64)]
    errors = ((a - b).abs().max() / b.abs().max() for a, b in zip(*results, strict=True))
    return max(1e-12, *(float(error) for error in errors))


def _results(data: Problem, dtype: torch.dtype, n_iterations: int) -> list[Tensor]:
    ours = Ours(data.x.to(dtype), data.y.to(dtype), K, data.z)
    for _ in range(n_iterations):
        bound = ours.iterate()
    experts = ours.attempt.mixture.experts
    return [torch.tensor(bound), experts.centred_coefficients, experts.noise_standard_deviations]
