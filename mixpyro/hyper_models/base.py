"""The interface of hyper models, and checks of the tensors that an EM loop passes."""

import torch
from torch import Tensor

from mixpyro import arguments


class HyperModel:
    """Interface of every hyper model: a prior over which of K local models explains each object.

    Every method of this class raises ``NotImplementedError``.
    """

    def E_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Set the variational posterior of the weights given the responsibilities.

        Args:
            X: features [N, D].
            Y: targets [N, P], not read.
            Z: responsibilities [N, K], at least zero.
            HyperParameters: not read.
        """
        raise NotImplementedError

    def M_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Raise the bound in the parameters of the hyper model given the responsibilities.

        Args:
            X: features [N, D].
            Y: targets [N, P], not read.
            Z: responsibilities [N, K], at least zero.
            HyperParameters: not read.
        """
        raise NotImplementedError

    def LogPiExpectation(self, X: Tensor, Y: object, HyperParameters: object) -> Tensor:
        """Return the expected logarithm of every object's weights [N, K].

        Args:
            X: features [N, D].
            Y: targets [N, P], not read.
            HyperParameters: not read.
        """
        raise NotImplementedError

    def PredictPi(self, X: Tensor, HyperParameters: object) -> Tensor:
        """Return the predicted weights of every object [N, K], each row of sum one.

        Args:
            X: features [N, D].
            HyperParameters: not read.
        """
        raise NotImplementedError


def checked_device(device: str | torch.device) -> str | torch.device:
    """Return a device of this machine, with 'cuda' for 'gpu'.

    Args:
        device: ``'cpu'``, ``'gpu'``, ``'cuda'``, ``'cuda:1'`` or a torch.device.

    Raises:
        TypeError: if it is neither a string nor a torch.device.
        ValueError: if it names no device.
        RuntimeError: if the device is not present.
    """
    device = "cuda" if isinstance(device, str) and device == "gpu" else device
    arguments.device(device)
    return device


def checked_responsibilities(X: Tensor, Z: Tensor, n_components: int, like: Tensor) -> Tensor:
    """Return Z as floating numbers, if it has the shape [N, K] for the N rows of X.

    Args:
        X: features [N, D].
        Z: responsibilities [N, K].
        n_components: K.
        like: a tensor on the device of the result.

    Raises:
        TypeError: if X or Z is no tensor.
        ValueError: if Z has another shape, or holds a negative or non-finite value.
    """
    check_rows(X)
    return arguments.responsibilities(floating(Z, like.device), n_components, len(X), name="Z")


def floating(Z: Tensor, device: torch.device) -> Tensor:
    """Return Z as floating numbers on a device, in its own dtype if that is a floating one.

    Args:
        Z: responsibilities [N, K].
        device: of the result.

    Raises:
        TypeError: if Z is no tensor.
    """
    if not isinstance(Z, Tensor):
        raise TypeError(f"`Z` must be a torch.Tensor; got {type(Z).__name__}. Use torch.as_tensor(numpy.asarray(Z)).")
    Z = arguments.dense("Z", Z)
    if Z.is_complex():
        raise TypeError(f"`Z` must have a real dtype; got {Z.dtype}.")
    return Z.to(device, Z.dtype if Z.is_floating_point() else torch.get_default_dtype())


def check_rows(X: Tensor) -> None:
    """Raise if X is not a tensor with one row per object.

    Args:
        X: features [N, D].

    Raises:
        TypeError: if X is no tensor.
        ValueError: if X is a scalar.
    """
    if not isinstance(X, Tensor):
        raise TypeError(f"`X` must be a torch.Tensor; got {type(X).__name__}. Use torch.as_tensor(numpy.asarray(X)).")
    arguments.dense("X", X)
    if X.ndim == 0:
        raise ValueError("`X` must have a row for each object; got a scalar.")


def rows_like(X: Tensor, like: Tensor) -> Tensor:
    """Return gate inputs [N, 0]: a gate without features reads N, the dtype and the device only.

    Args:
        X: features [N, D].
        like: a tensor of the dtype and device of the result.
    """
    return like.new_empty(len(X), 0)
