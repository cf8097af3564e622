"""An iteration of many rows beside what the memory of the device can move, and beside a plain loop of the same EM.

An iteration must read the columns of u and y once, N (D + 2) numbers with the ones of the intercept: all else could
stay on the chip. That is ``least``. ``counted`` is what the calls of PyTorch read and write, tensor by tensor,
as a dispatcher sees them, views not counted; their number is that of the launches, within a few. Sums of squares
are float64 for data of any dtype: ``flops`` counts theirs, K (E + P)² multiplications and as many sums for a row.
"""

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.benchmarks.cuda.works import finish, seconds
from tests.benchmarks.speed.hand_written import Ours

D, K = 10, 8
VIEWS = tuple(
    "view expand slice select unsqueeze squeeze transpose split as_strided detach permute "
    "alias unbind t.default diagonal empty _unsafe_view unflatten lift_fresh".split()
)


class Counted(TorchDispatchMode):
    """Counts operations, and the bytes of the tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls, self.bytes, self.of = 0, 0, dict[str, tuple[int, int]]()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        name = str(function).removeprefix("aten.")
        if not any(name.startswith(view) for view in VIEWS):
            moved = sum(map(size, tree_leaves((arguments, options)))) + sum(map(size, tree_leaves(result)))
            self.calls, self.bytes = self.calls + 1, self.bytes + moved
            calls, so_far = self.of.get(name, (0, 0))
            self.of[name] = calls + 1, so_far + moved
        return result


def size(value: Any) -> int:
    """Return the bytes of a tensor's own numbers; those that are expanded are read from the cache."""
    if not isinstance(value, Tensor):
        return 0
    numbers = 1
    for length, stride in zip(value.shape, value.stride(), strict=True):
        numbers *= length if stride else 1
    return numbers * value.element_size()


def rows(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw rows on the device itself: x [N, D] and y [N], float32."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(n, D, generator=generator, device=device)
    lines = 3.0 * torch.randn(K, D, generator=generator, device=device)
    z = torch.randint(K, (n,), generator=generator, device=device)
    y = torch.randn(n, generator=generator, device=device).mul_(0.3)
    for k in range(K):
        y += (x @ lines[k]) * (z == k)
    return x, y


def ours(x: Tensor, y: Tensor) -> Ours:
    """Return our iterations, on the device of the rows."""
    return Ours(x, y, K, torch.arange(len(x), device=x.device) % K)


class PlainLoop:
    """The same EM by the plainest calls of PyTorch: all rows at once, one dtype, an intercept, a Normal-Gamma prior."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.u, self.y = torch.cat([torch.ones_like(x[:, :1]), x], 1), y
        self.r = torch.nn.functional.one_hot(torch.arange(len(x), device=x.device) % K, K).to(x) * 0.2 + 0.1
        self.r /= self.r.sum(1, keepdim=True)

    def iterate(self) -> float:
        """Make one iteration; return the sum of log evidences in nats."""
        u, y, r = self.u, self.y, self.r
        n, eye = r.sum(0), torch.eye(u.shape[1]).to(u)
        precision = torch.stack([u.T @ (u * r[:, k : k + 1]) for k in range(K)]) + 0.01 * eye
        target = (r * y[:, None]).T @ u
        mean = torch.linalg.solve(precision, target)
        shape = 1.0 + 0.5 * n
        rate = 0.01 + 0.5 * ((r * y.square()[:, None]).sum(0) - (mean * target).sum(1)).clamp_min(0.0)
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        log_weights = torch.digamma(1.0 + n) - torch.digamma((1.0 + n).sum())
        residual = (y[:, None] - u @ mean.T).square() * (shape / rate)
        leverage = torch.stack([(u @ f).square().sum(1) for f in factor], 1)
        log_joint = log_weights + 0.5 * (torch.digamma(shape) - rate.log()) - 0.5 * (residual + leverage)
        evidence = log_joint.logsumexp(1, keepdim=True)
        self.r = (log_joint - evidence).exp()
        return float(evidence.sum())


def copy_rate(device: torch.device, n_bytes: int, repeats: int = 5) -> float:
    """Return bytes read and written a second by a copy of a tensor."""
    source = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * n_bytes / seconds(lambda: target.copy_(source), device, repeats)


def counts(n: int) -> dict[str, Any]:
    """Count the operations and bytes of one of our iterations on PyTorch's ``meta`` device, with a GPU's blocks."""
    generator = torch.Generator().manual_seed(0)
    model = Ours(torch.randn(64, D, generator=generator), torch.randn(64, generator=generator), K)
    few = {name: getattr(model, name) for name in ("table", "step", "state")}

    def enlarged(value: Any) -> Any:
        """Make the rows of a table many, and everything ``meta``."""
        if isinstance(value, Tensor):
            shape = [n if length == 64 else length for length in value.shape]
            return torch.empty(shape, dtype=value.dtype, device="meta")
        if isinstance(value, tuple):
            parts = [enlarged(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return value

    from mixpyro.fitting import em

    mixture, table, step, state = model.mixture.to("meta"), *map(enlarged, few.values())
    with torch.no_grad(), Counted() as counted:
        state = em.update(mixture, state, step, table, model.by_gradient)
        em.e_step(mixture, state, table)
    largest = sorted(counted.of.items(), key=lambda item: -item[1][1])[:8]
    return {"calls": counted.calls, "bytes": counted.bytes, "bytes_a_row": counted.bytes / n, "largest": dict(largest)}


def measured(device: torch.device, *, n: int, repeats: int, most: float) -> dict[str, Any]:
    """Return rates and seconds of iterations of N rows."""
    started = time.perf_counter()
    rate = copy_rate(device, min(2**30, n * 4 * D))
    least = n * (D + 2) * 4
    figures: dict[str, Any] = {
        "n": n,
        "copy_bytes_a_second": rate,
        "least_bytes": least,
        "flops": 4 * n * K * (D + 2) ** 2,
    }
    x, y = rows(n, device)
    loop = ours(x, y)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    figures["seconds"] = seconds(loop.iterate, device, repeats, most=most / 2)
    if device.type == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    with Counted() as counted:
        loop.iterate()
    finish(device)
    figures |= {"calls": counted.calls, "counted_bytes": counted.bytes}
    figures["rate_of_counted"] = counted.bytes / figures["seconds"] / rate
    figures["rate_of_least"] = least / figures["seconds"] / rate
    figures["seconds_at_half_the_bandwidth"] = 2 * least / rate
    del loop
    if time.perf_counter() - started < most:
        with torch.no_grad():
            figures["plain_loop_seconds"] = seconds(PlainLoop(x, y).iterate, device, repeats, most=most / 2)
        figures["ours_over_plain"] = figures["seconds"] / figures["plain_loop_seconds"]
    return figures
