"""An epoch of ``HyperExpertNN.M_step`` beside the loop that it replaces, and beside PyTorch alone at its fastest.

What a step on 128 rows must do, for the network 20-10-10-8: in products 2 · 128 (20 · 10 + 10 · 10 + 10 · 8) = 97 000
operations forward and at most twice that backward, 10 µs of a core; 128 rows of 28 numbers to gather, 14 KB, 2 µs; 408
parameters to update. So it is all overhead, about 5 µs an operator, and there are more than fifty. Measured on one
core, in µs: forward 120, backward 200 to 270, Adam over six tensors 290, or 110 if fused, and a DataLoader, which takes
row by row, 500 to 700. Ours pays the same forward and backward; Adam over one tensor, 90; and for Pyro about 150: SVI's
own trace 30, the param statement 30, the factor and its scale 60, calls of the gate 30.

The limit, forward, backward and Adam over one tensor, is 85 % of plain PyTorch with a fused Adam, and the replaced loop
takes 2.3 times as long as that: a factor of 2.5 leaves Pyro about 40 µs. The weights are the same to the last bit as
those of the replaced loop, which rules a fused Adam out: it rounds otherwise.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixpyro.hyper_models import HyperExpertNN
from tests.benchmarks.speed.harness import Row, Sizes, fastest

SIZES = Sizes(100_000, 20, 8)
TINY = Sizes(300, 20, 8)
BATCH = 128


def rows(sizes: Sizes) -> Iterator[Row]:
    """Seconds an epoch, beside two loops on the same data from the same weights."""
    x, z = data(sizes)
    model = HyperExpertNN(input_dim=sizes.n_features, hidden_dim=10, output_dim=sizes.n_components, epochs=1)
    loops = replaced_loop(copy.deepcopy(model), x, z), fused_loop(copy.deepcopy(model), x, z)
    seconds = fastest(lambda: model.M_step(x, x, z, {}), *loops, repeats=1 if sizes.tiny else 5)
    yield Row("HyperExpertNN, an epoch", str(sizes), seconds[0], "DataLoader, default Adam", seconds[1], ">= 2.5")
    yield Row("HyperExpertNN, an epoch", str(sizes), seconds[0], "by index, fused Adam", seconds[2], "<= 1.5")


def data(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Inputs and responsibilities."""
    generator = Generator().manual_seed(0)
    x = torch.randn(sizes.n_objects, sizes.n_features, generator=generator)
    return x, torch.randn(sizes.n_objects, sizes.n_components, generator=generator).softmax(-1)


def replaced_loop(network: nn.Module, x: Tensor, z: Tensor) -> Callable[[], None]:
    """An epoch of what ``M_step`` stands for."""
    optimizer, dataset = torch.optim.Adam(network.parameters()), TensorDataset(x, z)

    def epoch() -> None:
        for x_batch, z_batch in DataLoader(dataset, batch_size=BATCH, shuffle=True):
            step(network, optimizer, x_batch, z_batch)

    return epoch


def fused_loop(network: nn.Module, x: Tensor, z: Tensor) -> Callable[[], None]:
    """An epoch with nothing in it that could be left out."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def epoch() -> None:
        for batch in torch.randperm(len(x)).split(BATCH):
            step(network, optimizer, x[batch], z[batch])

    return epoch


def step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, z: Tensor) -> None:
    """One step on a batch."""
    optimizer.zero_grad()
    loss = -(z * torch.log_softmax(network(x), dim=-1)).mean()
    loss.backward()
    optimizer.step()
