"""Designs of gates that are regressions on their inputs, or on the features that a network makes of these."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.shapes import Inputs

# Largest number of a row of the design, whose square times the number of rows is finite.
LARGEST = 1e100


class GateWithDesign(ConjugateGate):
    """A gate that reads u = [1, x], or [1, features of x]."""

    n_features: int
    # Columns that a network makes of x; not read without one.
    _n_made = 0

    def design(self, x: Inputs) -> Float[Tensor, "N E"]:
        """Return u = [1, x], or [1, features of x], float64.

        A row with a number above 1e100 is divided down to it: its weights are the same to the last digit, unless
        coefficients are as small as its reciprocal. To learn from such a row is refused by :meth:`refuse_huge`.

        Args:
            x: gate inputs [N, D].
        """
        checked = arguments.tensor("x", x, ("N", self.n_features))
        # Not as an attribute: in a program a PyroModule would put the network's parameters into the store.
        network = self._modules.get("features")
        u = with_intercept((checked if network is None else outputs_of(network, checked)).double())
        return u / (u.abs().amax(-1, keepdim=True) / LARGEST).clamp_min(1.0)

    def refuse_huge(self, x: Inputs) -> None:
        """Raise if x has numbers whose sums of squares overflow.

        Args:
            x: gate inputs [N, D].

        Raises:
            ValueError: if one is above 1e100.
        """
        if x.dtype == torch.float64 and x.numel() and bool((x.abs() > LARGEST).any()):
            raise ValueError(
                f"`x` of a {type(self).__name__} must be within ±{LARGEST:.0e} to learn from; got "
                f"{float(x.abs().max()):.3g}. Standardise x."
            )

    @property
    def n_columns(self) -> int:
        """Columns of the design beside the intercept: those of x, or the features that a network makes of it."""
        return self.n_features if self._modules.get("features") is None else self._n_made

    def keep_features(self, network: nn.Module | None) -> None:
        """Keep a frozen copy of a network whose outputs are the columns of the design; those of x without one.

        Args:
            network: takes x [N, D], gives features [N, E − 1].

        Raises:
            TypeError: if it is no network.
            ValueError: if it gives another shape.
        """
        if network is None:
            self.features = None
            return
        if not isinstance(network, nn.Module):
            raise TypeError(f"`features` must be a torch.nn.Module; got {type(network).__name__}.")
        arguments.refuse_lazy((*network.parameters(), *network.buffers()), name="features")
        copied = copy.deepcopy(network).eval().requires_grad_(False)
        arguments.make_normal(copied)
        like = next((part for part in copied.parameters()), torch.zeros((), dtype=torch.float64, device="cpu"))
        found = outputs_of(copied, torch.zeros(2, self.n_features, dtype=like.dtype, device=like.device))
        if not isinstance(found, Tensor):
            raise TypeError(f"`features` must return a tensor; got {type(found).__name__}.")
        if found.ndim != 2 or len(found) != 2:
            raise ValueError(f"`features` must return [N, columns] for x [N, D]; got {list(found.shape)} for two rows.")
        self._n_made, self.features = found.shape[1], copied

    def train(self, mode: bool = True) -> "GateWithDesign":
        """Set the training mode of all but the features, which stay as they are in use.

        Args:
            mode: as for any module.
        """
        super().train(mode)
        network = self._modules.get("features")
        if network is not None:
            network.eval()
        return self

    def estimated_tensors(self) -> list[Tensor]:
        """Return nothing: the features are fixed, their buffers too."""
        return []


def outputs_of(network: nn.Module, x: Tensor) -> Tensor:
    """Return what a frozen network makes of x, in the dtype of its parameters.

    Args:
        network: any.
        x: [N, D].
    """
    like = next((part for part in network.parameters() if part.is_floating_point()), x)
    try:
        found: Tensor = network(x.to(like.dtype))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        pass_on(error)
        raise ValueError(f"`features` must take inputs of shape {list(x.shape)}; it failed with: {error}") from error
    return found
