"""What every hyper model is, and the checks of what an EM loop passes to one."""

import torch
from torch import Tensor

from mixpyro import arguments

HyperParametersDict = dict[str, Tensor]


class HyperModel:
    """What every hyper model can do; the methods of this class only raise."""

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: HyperParametersDict) -> None:
        """Find the variational posterior of the weights given Z."""
        raise NotImplementedError

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: HyperParametersDict) -> None:
        """Find the parameters of the weights' model given Z."""
        raise NotImplementedError

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: HyperParametersDict) -> Tensor:
        """Expected logarithm of every object's weights [N, K]."""
        raise NotImplementedError

    def PredictPi(self, X: Tensor, HyperParameters: HyperParametersDict) -> Tensor:
        """Predicted weights of every object [N, K]."""
        raise NotImplementedError


def checked_device(device: str | torch.device) -> str | torch.device:
    """The device as given, 'gpu' being 'cuda'; raises where it is not present."""
    device = "cuda" if device == "gpu" else device
    arguments.device(device)
    return device


def checked_responsibilities(X: Tensor, Z: Tensor, n_components: int, part: Tensor) -> Tensor:
    """Z [N, K] as floating numbers on the device of ``part``, if it fits X."""
    check_rows(X)
    return arguments.responsibilities(floating(Z, part.device), n_components, len(X), name="Z")


def floating(Z: Tensor, device: torch.device) -> Tensor:
    """Z as floating numbers on ``device``."""
    if not isinstance(Z, Tensor):
        raise TypeError(f"`Z` must be a torch.Tensor; got {type(Z).__name__}. Use torch.as_tensor(Z).")
    return Z.to(device, Z.dtype if Z.is_floating_point() else torch.get_default_dtype())


def check_rows(X: Tensor) -> None:
    """Raise if X is no tensor with a row for each object."""
    if not isinstance(X, Tensor):
        raise TypeError(f"`X` must be a torch.Tensor; got {type(X).__name__}.")
    if X.ndim == 0:
        raise ValueError("`X` must have a row for each object; got a scalar.")


def rows_like(X: Tensor, like: Tensor) -> Tensor:
    """N rows without columns: all that a gate without inputs reads off X is N, the dtype and the device."""
    return like.new_empty(len(X), 0)
