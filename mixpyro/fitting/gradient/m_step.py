"""The M-step by gradient: Pyro's SVI on the objective of a gate or of experts."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn.parameter import is_lazy

from mixpyro.experts.base import Experts
from mixpyro.fitting.gradient.joint_adam import JointAdam
from mixpyro.fitting.gradient.minibatches import shuffled_batches
from mixpyro.fitting.gradient.objective_elbo import ObjectiveELBO
from mixpyro.fitting.gradient.optimisers import LineSearches
from mixpyro.fitting.gradient.samples import growing_samples
from mixpyro.gates.base import Gate
from mixpyro.gates.conjugate import ObjectGate
from mixpyro.pyro_internals.parameter_store import own_parameter_store, registered_as_one

Data = tuple[Tensor, ...]
Climb = Callable[[Data], None]

# Nats an object that a step on a sample must gain to be followed by another: what is left is found on more rows.
SAMPLE_TOLERANCE = 1e-6
NO_GAIN = 1e-14


class MStep:
    """Steps of SVI that maximise one objective in the parameters of one module.

    They run in a parameter store of their own. The user's store is neither read nor changed, so two modules of one
    name, a deep copy, or ``pyro.clear_param_store()`` between two steps make no difference: the module's parameters are
    trained, in place. Copying the module and its MStep together copies Adam's state too. Steps in
    several threads wait for each other; a Pyro program of the user's own must not run beside them, as Pyro has it.

    Args:
        module: a gate or experts, whose ``objective`` is a Pyro model of the log density to be maximised.
        lr: step size of Adam, for minibatches.
    """

    def __init__(self, module: Gate | Experts, *, lr: float = 1e-3) -> None:
        self.module = module
        self._elbo = ObjectiveELBO()
        self._adam = JointAdam(lr)
        self._samples_help = True

    def step(self, *data: Tensor, scale: float = 1.0, lr: float | None = None) -> float:
        """One step of Adam on ``scale`` times ``module.objective(*data)``; gives the loss before it.

        ``lr`` is its step size from now on.
        """
        self._adam.lr = self._adam.lr if lr is None else lr
        data = detached(data)
        with self._svi_by_adam(data) as svi:
            return float(svi.step(scale, *data))

    def epoch(self, *data: Tensor, batch_size: int) -> None:
        """One pass of Adam over shuffled minibatches of ``data``, each on the mean over its rows and components."""
        data = detached(data)
        with self._svi_by_adam(data) as svi:
            for batch in shuffled_batches(data, batch_size):
                svi.step(1.0 / (len(batch[0]) * self.module.n_components), *batch)

    @contextmanager
    def _svi_by_adam(self, data: Data) -> Iterator[SVI]:
        """SVI by Adam, which may be stepped inside."""
        if any(is_lazy(parameter) for parameter in self.module.parameters()):
            self._objective_value(tuple(part[:1] for part in data))
        with own_parameter_store(self.module) as trainable, self._adam.over(trainable) as leaves:
            with registered_as_one(self.module):
                yield self._svi(leaves, self._adam)

    def improve(self, *data: Tensor, n_steps: int, tolerance: float = NO_GAIN) -> None:
        """At most ``n_steps`` of L-BFGS on all of ``data``, or none where they do not raise the objective.

        Where there are many rows, as many steps on samples of them come first, each larger than the last, for as long
        as that has raised the objective of all rows: far from the optimum a sample shows the way as well.

        Args:
            data: what the objective takes, a row an object; the last tensor holds responsibilities. The objective must
                be a function of the parameters alone: no dropout in training mode.
            n_steps: most steps on all rows, and on each sample.
            tolerance: nats an object; the steps end with one that gains no more.
        """
        data = detached(data)
        value = self._objective_value(data)
        samples = list(growing_samples(data)) if self._samples_help and sums_over_rows(self.module) else []
        if samples:
            coarse = partial(self._climb, n_steps=n_steps, tolerance=max(tolerance, SAMPLE_TOLERANCE))
            reached = self._raised(coarse, samples, data, value)
            self._samples_help, value = reached > value, reached
        self._raised(partial(self._climb, n_steps=n_steps, tolerance=tolerance), [data], data, value)

    def _raised(self, climb: Climb, parts: Sequence[Data], data: Data, before: float) -> float:
        """Climb on each of ``parts``; gives the objective of ``data``, and undoes what has lowered it."""
        snapshot = {name: value.clone() for name, value in self.module.state_dict().items()}
        try:
            for part in parts:
                climb(part)
            after = self._objective_value(data)
        except ValueError:
            # A step so long that a distribution refused its own parameters.
            after = -math.inf
        if after >= before:
            return after
        self.module.load_state_dict(snapshot)
        return before

    def _climb(self, data: Data, *, n_steps: int, tolerance: float) -> None:
        scale = 1.0 / max(1.0, float(data[-1].sum()))
        with own_parameter_store(self.module) as trainable, registered_as_one(self.module):
            closure = partial(self._loss_and_gradients, scale, data)
            search = LineSearches(trainable, n_steps, closure, tolerance=tolerance)
            self._svi(trainable, search).step(scale, *data)

    def _svi(self, leaves: Sequence[Tensor], optimizer: PyroOptim) -> SVI:
        return SVI(partial(self._model, leaves), _no_guide, optimizer, self._elbo)

    def _loss_and_gradients(self, scale: float, data: Data) -> float:
        return float(self._elbo.loss_and_grads(self._model, _no_guide, (), scale, *data))

    def _objective_value(self, data: Data) -> float:
        with torch.no_grad():
            return float(self.module.partial_bound(*data))

    def _model(self, leaves: Sequence[Tensor], scale: float, *data: Tensor) -> None:
        """What SVI sees: the leaves that hold the parameters, and the objective."""
        for number, leaf in enumerate(leaves):
            pyro.param(f"trained {number}", leaf)
        with poutine.scale(scale=scale):
            self.module.objective(*data)


def detached(data: Data) -> Data:
    """The data without whatever graph they come from: an M-step has no business in it."""
    return tuple(part.detach() for part in data)


def sums_over_rows(module: Gate | Experts) -> bool:
    """Whether the objective is a sum over objects, so that a sample of them speaks for all."""
    return not isinstance(module, ObjectGate)


def _no_guide(*_: object) -> None:
    """The objective has no latent variable."""
