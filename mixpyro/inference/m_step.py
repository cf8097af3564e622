"""The M-step by gradient: Pyro's SVI on the objective of a gate or of experts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn import Parameter
from torch.utils.data import RandomSampler

from mixpyro.experts.base import Experts
from mixpyro.gates.base import Gate


class JointAdam(PyroOptim):
    """One Adam over all parameters together; Pyro's own keeps one optimiser a parameter, half of an SVI step's time.

    Its state belongs to the parameters: it is kept from call to call, and follows them to another dtype or device.

    Args:
        lr: step size.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__(torch.optim.Adam, {"lr": lr})
        self.largest_lr = self.lr = lr
        self.adam: torch.optim.Adam | None = None

    def __call__(self, params: Iterable[Parameter], *args: object, **kwargs: object) -> None:
        """Take one step with the gradients that ``params`` hold."""
        params = set(params)
        if self.adam is None or params != set(self.adam.param_groups[0]["params"]):
            self.adam = self._rebuilt(params)
        self.adam.param_groups[0]["lr"] = self.lr
        self._follow(self.adam)
        self.adam.step()

    def adapt(self, improved: bool) -> None:
        """Halve the step size after a step that had to be taken back, let it recover after a good one."""
        self.lr = min(1.5 * self.lr, self.largest_lr) if improved else 0.5 * self.lr
        if not improved:
            self.adam = None

    @property
    def exhausted(self) -> bool:
        """Whether steps a thousand times smaller than at first still overshoot: there is nothing left to gain."""
        return self.lr < 1e-3 * self.largest_lr

    def _rebuilt(self, params: set[Parameter]) -> torch.optim.Adam:
        fresh = torch.optim.Adam(list(params), lr=self.lr)
        if self.adam is not None:
            fresh.state.update({p: state for p, state in self.adam.state.items() if p in params})
        return fresh

    @staticmethod
    def _follow(adam: torch.optim.Adam) -> None:
        for parameter, state in adam.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].to(parameter)


class MStep:
    """Steps of SVI that maximise one objective in the parameters of one module.

    They run in a parameter store of their own. The user's store is neither read nor changed, so two modules of one
    name, a
    deep copy, or ``pyro.clear_param_store()`` between two steps make no difference: the module's parameters are
    trained, in
    place. Copying the module and its MStep together copies Adam's state too.

    Args:
        module: a gate or experts, whose ``objective`` is a Pyro model of the log density to be maximised.
        lr: step size of Adam.
    """

    def __init__(self, module: Gate | Experts, *, lr: float = 1e-3) -> None:
        self.module = module
        self.optimizer = JointAdam(lr)
        self.succeeded = False
        self._svi = SVI(self._scaled_objective, _no_guide, self.optimizer, Trace_ELBO())

    def step(self, *data: Tensor, scale: float = 1.0) -> float:
        """One step on ``scale`` times ``module.objective(*data)``; gives the loss before it."""
        with own_parameter_store(self.module):
            return float(self._svi.step(scale, *data))

    def epoch(self, *data: Tensor, batch_size: int) -> None:
        """One pass over shuffled minibatches of ``data``, each step on the mean over its rows and components."""
        with own_parameter_store(self.module):
            for rows in shuffled_batches(len(data[0]), batch_size):
                scale = 1.0 / (len(rows) * self.module.n_components)
                self._svi.step(scale, *(part[rows] for part in data))

    def improve(self, *data: Tensor, n_steps: int) -> None:
        """Take ``n_steps`` steps on all of ``data``, or none if they lower the objective; ``succeeded`` says which.

        Adam's steps overshoot where little is left to gain: the step size is halved then, and recovers with success.
        """
        before = self._objective_value(*data)
        snapshot = [parameter.detach().clone() for parameter in self.module.parameters()]
        with own_parameter_store(self.module):
            for _ in range(n_steps):
                self._svi.step(1.0, *data)
        improved = self._objective_value(*data) >= before
        if not improved:
            with torch.no_grad():
                for parameter, value in zip(self.module.parameters(), snapshot, strict=True):
                    parameter.copy_(value)
        self.optimizer.adapt(improved)
        self.succeeded = improved

    def _objective_value(self, *data: Tensor) -> float:
        with torch.no_grad():
            return float(self.module.partial_bound(*data))

    def _scaled_objective(self, scale: float, *data: Tensor) -> None:
        with poutine.scale(scale=scale):
            self.module.objective(*data)


def shuffled_batches(n_rows: int, batch_size: int) -> Iterator[Tensor]:
    """Row numbers of the minibatches that ``DataLoader(dataset, batch_size, shuffle=True)`` gives under the seed."""
    torch.empty((), dtype=torch.int64).random_()  # a DataLoader draws a seed for its workers first
    order = torch.tensor(list(RandomSampler(range(n_rows))))
    yield from order.split(batch_size)


def _no_guide(*_: object) -> None:
    """The objective has no latent variable."""


@contextmanager
def own_parameter_store(module: torch.nn.Module) -> Iterator[None]:
    """A fresh parameter store inside, and gradients; the user's store and settings stand again afterwards."""
    parameters = [p for p in module.parameters() if not hasattr(p, "unconstrained")]
    with pyro.settings.context(module_local_params=False), pyro.get_param_store().scope(), torch.enable_grad():
        try:
            yield
        finally:
            # Pyro hangs a weak reference on every parameter that it registers, with which none can be pickled.
            for parameter in parameters:
                vars(parameter).pop("unconstrained", None)
