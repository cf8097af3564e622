"""The M-step by gradient: Pyro's SVI on the objective of a gate or of experts."""

from collections.abc import Callable, Iterable, Iterator

import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn import Parameter
from torch.utils.data import RandomSampler

from mixpyro.experts.base import Experts
from mixpyro.gates.base import Gate
from mixpyro.parameters import own_parameter_store


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
        self._elbo = Trace_ELBO()
        self._adam = JointAdam(lr)

    def step(self, *data: Tensor, scale: float = 1.0, lr: float | None = None) -> float:
        """One step of Adam on ``scale`` times ``module.objective(*data)``; gives the loss before it.

        ``lr`` is its step size from now on.
        """
        self._adam.lr = self._adam.lr if lr is None else lr
        with own_parameter_store(self.module) as self._adam.trainable:
            return float(self._svi(self._adam).step(scale, *detached(data)))

    def epoch(self, *data: Tensor, batch_size: int) -> None:
        """One pass of Adam over shuffled minibatches of ``data``, each on the mean over its rows and components."""
        data = detached(data)
        svi = self._svi(self._adam)
        with own_parameter_store(self.module) as self._adam.trainable:
            for rows in shuffled_batches(len(data[0]), batch_size):
                scale = 1.0 / (len(rows) * self.module.n_components)
                svi.step(scale, *(part[rows] for part in data))

    def improve(self, *data: Tensor, n_steps: int) -> None:
        """At most ``n_steps`` of L-BFGS on all of ``data``, or none where they do not raise the objective.

        The objective must be a function of the parameters alone: no dropout in training mode.
        """
        data = detached(data)
        before = self._objective_value(data)
        snapshot = {name: value.clone() for name, value in self.module.state_dict().items()}
        scale = 1.0 / max(1.0, float(data[-1].sum()))
        try:
            with own_parameter_store(self.module) as trainable:
                search = LineSearches(trainable, n_steps, lambda: self._loss_and_gradients(scale, data))
                self._svi(search).step(scale, *data)
            raised = self._objective_value(data) >= before
        except ValueError:
            # A step so long that a distribution refused its own parameters.
            raised = False
        if not raised:
            self.module.load_state_dict(snapshot)

    def _svi(self, optimizer: PyroOptim) -> SVI:
        return SVI(self._scaled_objective, _no_guide, optimizer, self._elbo)

    def _loss_and_gradients(self, scale: float, data: tuple[Tensor, ...]) -> float:
        return float(self._elbo.loss_and_grads(self._scaled_objective, _no_guide, scale, *data))

    def _objective_value(self, data: tuple[Tensor, ...]) -> float:
        with torch.no_grad():
            return float(self.module.partial_bound(*data))

    def _scaled_objective(self, scale: float, *data: Tensor) -> None:
        with poutine.scale(scale=scale):
            self.module.objective(*data)


class JointAdam(PyroOptim):
    """One Adam over all parameters together; Pyro's own keeps one optimiser a parameter, half of an SVI step's time.

    Its state belongs to the parameters: it is kept from call to call, and follows them to another dtype or device.

    Args:
        lr: step size.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__(torch.optim.Adam, {"lr": lr})
        self.lr = lr
        self.trainable: list[Parameter] = []
        self.adam: torch.optim.Adam | None = None

    def __call__(self, params: Iterable[Parameter], *args: object, **kwargs: object) -> None:
        """Take one step with the gradients that the trainable of ``params`` hold."""
        wanted = set(params).intersection(self.trainable)
        if self.adam is None or wanted != set(self.adam.param_groups[0]["params"]):
            self.adam = self._rebuilt(wanted)
        self._follow(self.adam)
        self.adam.param_groups[0]["lr"] = self.lr
        self.adam.step()

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


class LineSearches(PyroOptim):
    """All the steps that one full-data M-step takes, by L-BFGS with strong Wolfe line searches.

    The data stand still, so there is no noise that Adam would be needed for; nor is there a step size to choose.

    Args:
        trainable: the parameters.
        n_steps: most steps.
        loss_and_gradients: evaluates SVI's loss and leaves its gradients in the parameters.
    """

    def __init__(self, trainable: list[Parameter], n_steps: int, loss_and_gradients: Callable[[], float]) -> None:
        super().__init__(torch.optim.LBFGS, {})
        self.trainable = trainable
        self.n_steps = n_steps
        self.loss_and_gradients = loss_and_gradients

    def __call__(self, params: Iterable[Parameter], *args: object, **kwargs: object) -> None:
        """Take the steps."""
        search = torch.optim.LBFGS(
            self.trainable,
            max_iter=self.n_steps,
            tolerance_grad=1e-10,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            search.zero_grad()
            return self.loss_and_gradients()

        search.step(closure)


def shuffled_batches(n_rows: int, batch_size: int) -> Iterator[Tensor]:
    """Row numbers of the minibatches that ``DataLoader(dataset, batch_size, shuffle=True)`` gives under the seed."""
    torch.empty((), dtype=torch.int64).random_()  # a DataLoader draws a seed for its workers first
    order = torch.tensor(list(RandomSampler(range(n_rows))))
    yield from order.split(batch_size)


def detached(data: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The data without whatever graph they come from: an M-step has no business in it."""
    return tuple(part.detach() for part in data)


def _no_guide(*_: object) -> None:
    """The objective has no latent variable."""
