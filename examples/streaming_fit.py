"""Can a mixture be fitted to more rows than fit into memory?

Question: a million rows arrive in batches of a few thousand and are not kept. Does one pass over them find the lines
that the rows lie on, and how much memory does it take?

Data: simulated, so that the answer is known: three lines, y = 2 + x, y = −1 − x and y = 0.5 x, with noise 0.3; the
share of each depends on x, by a softmax of a linear function. The batches come from an ``IterableDataset`` through a
``DataLoader``, as they would from files.

Expected answer: after one pass the coefficients are right to two digits, the predictive density of new rows is within
0.001 nats of the truth, and memory has not grown with the rows. Ten seconds on one core, half of them for the first
batch.

Source of the method: Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference.
"""

import argparse
import resource
import time
from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, IterableDataset

from mixpyro import LinearExperts, MixtureOfExperts, SoftmaxGate, StreamingFit

LINES = torch.tensor([[2.0, 1.0], [-1.0, -1.0], [0.0, 0.5]])
GATE = torch.tensor([[0.0, 0.0], [0.5, 1.0], [-0.5, -1.0]])
NOISE = 0.3


class Rows(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches x [B, 1], y [B, 1], simulated on demand.

    Args:
        n_rows: rows of all batches.
        batch_size: B.
        seed: of the simulation.
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches."""
        generator = Generator().manual_seed(self.seed)
        for _ in range(self.n_rows // self.batch_size):
            yield simulate(self.batch_size, generator)


def main(args: argparse.Namespace) -> None:
    """Fit the stream; print scores, memory and seconds while it runs."""
    mixture = MixtureOfExperts(SoftmaxGate(3, 1, dtype=torch.float32), LinearExperts(3, 1, dtype=torch.float32))
    stream = StreamingFit(mixture, n_restarts=args.restarts, seed=args.seed)
    test = simulate(5000, Generator().manual_seed(args.seed + 1))
    started, report = time.perf_counter(), 1.0
    print(f"{'rows':>9}{'log p of new rows':>20}{'memory, MiB':>13}{'seconds':>9}")
    # The data set yields whole batches: None tells the loader not to collate them.
    for x, y in DataLoader(Rows(args.rows, args.batch_size, args.seed), batch_size=None):
        stream.partial_fit(x, y)
        if stream.n_seen >= report or stream.n_seen + args.batch_size > args.rows:
            score = float(mixture.log_prob(*test).mean())
            print(f"{stream.n_seen:>9.0f}{score:>20.4f}{peak_memory():>13.0f}{time.perf_counter() - started:>9.1f}")
            report = 4 * stream.n_seen
    print(f"\nlog p of new rows under the truth: {float(truth(*test).mean()):.4f}")
    describe(mixture)


def simulate(n_rows: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw rows on the three lines: x [N, 1] and y [N, 1]."""
    u = torch.stack([torch.ones(n_rows), torch.randn(n_rows, generator=generator)], dim=1)
    z = torch.multinomial((u @ GATE.mT).softmax(-1), 1, generator=generator)
    mean = (u @ LINES.mT).gather(1, z)
    return u[:, 1:], mean + NOISE * torch.randn(n_rows, 1, generator=generator)


def truth(x: Tensor, y: Tensor) -> Tensor:
    """Return log p(y | x) [N] under the true lines and gate."""
    u = torch.cat([torch.ones_like(x), x], dim=1)
    likelihood = torch.distributions.Normal(u @ LINES.mT, NOISE).log_prob(y)
    return ((u @ GATE.mT).log_softmax(-1) + likelihood).logsumexp(-1)


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def describe(mixture: MixtureOfExperts) -> None:
    """Print each component next to its true line, the steepest first."""
    order = mixture.experts.coefficients[:, 0, 1].argsort(descending=True).tolist()
    true = LINES[LINES[:, 1].argsort(descending=True)].tolist()
    for k, (intercept, slope) in zip(order, true, strict=True):
        found = mixture.experts.coefficients[k, 0].tolist()
        noise = float(mixture.experts.noise_standard_deviations[k, 0])
        print(
            f"component {k}: {found[0]:.3f} {found[1]:+.3f} x, noise {noise:.3f}; truth {intercept:.1f} {slope:+.1f} x"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the stream")
    parser.add_argument("--batch-size", type=int, default=2000, help="rows of each batch")
    parser.add_argument("--restarts", type=int, default=20, help="restarts on the first batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    torch.set_num_threads(1)
    main(parser.parse_args())
