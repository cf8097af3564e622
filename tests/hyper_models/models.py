"""A small model of each hyper model class, and data for it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixpyro.hyper_models import HyperExpertNN, HyperModelDirichlet, HyperModelGateSparsed
from tests.problems import inputs, responsibilities

CLASSES: dict[str, Any] = {c.__name__: c for c in (HyperModelDirichlet, HyperModelGateSparsed, HyperExpertNN)}


def small(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Make a model of the named class for two features and three components."""
    if name == "HyperExpertNN":
        return HyperExpertNN(input_dim=2, output_dim=3, epochs=2).to(dtype)
    return CLASSES[name](output_dim=3)


def data(n_objects: int = 7, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Make X [N, 2], Y [N, 1] and Z [N, 3] for it."""
    return (
        inputs(n_objects, dtype=dtype),
        inputs(n_objects, 1, dtype=dtype),
        responsibilities(n_objects, 3, dtype=dtype),
    )


def plain_m_step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, z: Tensor, epochs: int) -> None:
    """Train a network by the loop that ``HyperExpertNN.M_step`` describes, in plain torch."""
    for _ in range(epochs):
        for x_batch, z_batch in DataLoader(TensorDataset(x, z), batch_size=128, shuffle=True):
            optimizer.zero_grad()
            loss = -(z_batch * torch.log_softmax(network(x_batch), dim=-1)).mean()
            loss.backward()
            optimizer.step()
