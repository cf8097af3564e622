"""Time an iteration of variational EM, Dirichlet gate and linear experts; measure its memory and float32's error.

Limit of the machine at d = 10, K = 8, for one row of float32. Memory: read x and y and write r, 76 bytes, 8 ns at
10 GB/s of one core. Products: whitening takes 2 · K (E + 1)² = 2304 operations in float32 for E = 11, and the sums of
r (u, y)(u, y)' as many in float64. With matrices this small one core does 40 · 10⁹ of the former and 20 · 10⁹ of the
latter a second: 60 + 115 ns, or 90 ns on two cores.

Measured at version 0.1.0: 320 ns a row on one core and 210 to 260 ns on two, 1.8 and 2.6 times the limit. Of one core,
weighting (u, y) takes 45 ns, the difference from the origin 25, transposing and converting to float64 30, squares and
their sums 30, the exponential 10; calls take the rest. Two cores share products of a few thousand rows badly, the more
so the fewer the rows. Sums are in float64, because the noise is a small difference of large sums.
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
    """Yield the time, the memory and the error of float32."""
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
    """Return the largest relative error of the bound, the coefficients and the noises by float32, for float32 data.

    The start separates the components. Near a saddle point, rounding decides the direction, in float64 too.
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
    experts = ours.fitted().experts
    return [torch.tensor(bound), experts.centred_coefficients, experts.noise_standard_deviations]
