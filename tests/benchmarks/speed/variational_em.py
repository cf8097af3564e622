"""One iteration of variational EM, Dirichlet gate and linear experts, beside the hand-written loop; what float32 costs.

What an iteration must do at d = 10, K = 8, for one row of float32: read x and y and write r, 76 bytes, 8 ns at the
10 GB/s of one core here. In products: whiten, 2 · K (E + 1)² = 2304 operations in float32 for E = 11, and as many in
float64 for the sums of r (u, y)(u, y)'. Small as the matrices are, a core does 40 · 10⁹ of the first a second and
20 · 10⁹ of the second: 60 + 115 ns, or 90 ns on two cores. Measured, an iteration takes 320 ns a row on one core and
210 to 260 on two, 1.8 and 2.6 times that limit: weighting (u, y) takes 45 ns of a core, the difference from the origin
25, copies that turn rows into columns and float32 into float64 30, squares and their sums 30, the exponential 10; the
rest is calls. Two cores share a product of a few thousand rows badly, the more so the fewer. The sums are in float64,
for the noise is what a difference of them leaves over.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.benchmarks.speed.hand_written import Ours, Problem, problem, seconds_of_one
from tests.benchmarks.speed.harness import Row, Sizes
from tests.benchmarks.speed.memory import peak_mib, rows_in_a_file

SIZES = Sizes(1_000_000, 10, 8)
TINY = Sizes(500, 10, 8)
SHIFTS = {"unit columns": 0.0, "a column of mean 1e4": 1e4}


def rows(sizes: Sizes) -> Iterator[Row]:
    """Time, memory and precision."""
    for n in (sizes._replace(n_objects=sizes.n_objects // 10), sizes):
        data = problem(*n[:3])
        seconds = seconds_of_one(data.x, data.y, n.n_components, repeats=1 if n.tiny else 7)
        yield Row("variational EM, an iteration", str(n), seconds[0], "by hand", seconds[1], "<= 0.6")
    with rows_in_a_file(sizes) as path:
        peak = peak_mib(path, sizes, mapped=False)
    yield Row("a fit's memory beside the data, MiB", str(sizes), peak, "allowed", 512.0, "<= 1")
    for name, shift in SHIFTS.items():
        error = error_of_float32(sizes, shift, n_iterations=2 if sizes.tiny else 10)
        yield Row(f"error of float32, {name}", str(sizes), error, "allowed", 1e-4, "<= 1")


def error_of_float32(sizes: Sizes, shift: float, *, n_iterations: int) -> float:
    """The largest relative error of the bound, the coefficients and the noises, for what is float32 to begin with.

    From a start in which the components are told apart: near a saddle any two roundings part, in float64 too.
    """
    data = problem(*sizes[:3])
    data.x[:, 0] += shift
    dtypes = torch.float32, torch.float64
    results = [_results(data, dtype, sizes.n_components, n_iterations) for dtype in dtypes]
    errors = ((a - b).abs().max() / b.abs().max() for a, b in zip(*results, strict=True))
    return max(1e-12, *(float(error) for error in errors))


def _results(data: Problem, dtype: torch.dtype, n_components: int, n_iterations: int) -> list[Tensor]:
    ours = Ours(data.x.to(dtype), data.y.to(dtype), n_components, data.z)
    for _ in range(n_iterations):
        bound = ours.iterate()
    experts = ours.attempt.mixture.experts
    return [torch.tensor(bound), experts.centred_coefficients, experts.noise_standard_deviations]
