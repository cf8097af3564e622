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
from torch.nn import Parameter
from torch.nn.parameter import is_lazy

from mixpyro import arguments
from mixpyro.arguments.module_contents import contents_of
from mixpyro.arguments.signals import pass_on, undone_if_it_raises
from mixpyro.distributed import sums
from mixpyro.fitting.gradient.minibatches import growing_subsamples, shuffled_batches
from mixpyro.fitting.gradient.objective_elbo import ObjectiveELBO
from mixpyro.fitting.gradient.optimisers import FullDataLBFGS, FusedAdam, TorchOptimizer
from mixpyro.gates.per_object import ObjectGate
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import gradients_set_aside, own_parameter_store, parameters_registered

Tensors = tuple[Tensor, ...]

# Nats per object. Stop optimising on a subsample once a step gains less: the steps on more rows do the rest.
SUBSAMPLE_TOLERANCE = 1e-6
# Nats per object. A step on all rows that gains less than this gains nothing but rounding errors.
NO_GAIN = 1e-14


class MStep:
    """Maximise the objective of a gate or of experts in its parameters, by Pyro's SVI.

    The parameters are changed in place. They are registered in a parameter store that exists only during a call: the
    user's store is neither read nor changed, so two modules of one name, a deep copy, or ``pyro.clear_param_store()``
    between two calls do no harm. A deep copy or pickle of an MStep holds copies of the module and of the optimiser's
    state. Calls in several threads wait for each other; no other Pyro program may run beside them. A call that raises
    or is interrupted leaves the module and the optimiser as they were. Minibatches, and dropout in training mode, are
    drawn from the global random state, as in plain torch.

    Args:
        module: gate or experts whose ``objective`` is a Pyro model of the log density to be maximised.
        lr: step size of Adam in :meth:`step` and :meth:`epoch`.
    """

    def __init__(self, module: Part, *, lr: float = 1e-3) -> None:
        self.module = module
        self._lr = lr
        self._elbo = ObjectiveELBO()
        self._optimizer: TorchOptimizer | None = None
        self._use_subsamples = True

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser of :meth:`step` and :meth:`epoch`, fused Adam by default.

        An optimiser that is assigned changes its own parameters only, as in a loop of plain torch.
        """
        return self._torch_optimizer().optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError(
                "`optimizer` must be a torch.optim.Optimizer whose step needs no closure; got "
                f"{type(optimizer).__name__}. Use one such as torch.optim.Adam or torch.optim.SGD."
            )
        self._optimizer = TorchOptimizer(optimizer)

    def _torch_optimizer(self) -> TorchOptimizer:
        """The optimiser in use; Adam is made at the first use, because importing what it needs takes a second."""
        if self._optimizer is None:
            self._optimizer = FusedAdam(self.module.parameters(), lr=self._lr)
        return self._optimizer

    def kept(self) -> Callable[[], None]:
        """Keep what this object, its module and its optimiser are, and return what puts them back."""
        own, put_module_back = dict(vars(self)), contents_of(self.module)
        put_optimizer_back = None if self._optimizer is None else self._optimizer.kept()

        def put_back() -> None:
            vars(self).update(own)
            put_module_back()
            if put_optimizer_back is not None:
                put_optimizer_back()

        return put_back

    def step(self, *data: Tensor, scale: float = 1.0, lr: float | None = None) -> float:
        """Take one step of the optimiser on all rows of the data.

        Args:
            *data: arguments of the module's ``objective``, one row per object; the last holds responsibilities [N, K].
            scale: factor of the objective, above zero.
            lr: step size from this call on; unchanged if None.

        Returns:
            The loss before the step, minus ``scale`` times the objective in nats.
        """
        data = detached(data)

        def take() -> float:
            with self._svi(data) as svi:
                for group in () if lr is None else self.optimizer.param_groups:
                    group["lr"] = lr
                return float(svi.step(scale, *data))

        return undone_if_it_raises(take, self.kept)

    def epoch(self, *data: Tensor, batch_size: int) -> None:
        """Take one step of the optimiser on each minibatch of one shuffled pass over the data.

        The loss of a minibatch is the mean over its rows and components.

        Args:
            *data: arguments of the module's ``objective``, one row per object; the last holds responsibilities [N, K].
            batch_size: rows per minibatch, at least one.
        """
        data = detached(data)

        def go_through() -> None:
            with self._svi(data) as svi, self._torch_optimizer().steps_in_a_row():
                for batch in shuffled_batches(data, batch_size):
                    svi.step(1.0 / (len(batch[0]) * self.module.n_components), *batch)

        undone_if_it_raises(go_through, self.kept)

    def improve(self, *data: Tensor, n_steps: int, tolerance: float = NO_GAIN) -> None:
        """Take steps of L-BFGS on all rows, and undo them if they lower the objective.

        Where there are many rows, steps on growing subsamples come first: far from the optimum they are as good and
        much cheaper. They are left out from then on once they have failed to raise the objective of all rows.

        Args:
            *data: arguments of the module's ``objective``, one row per object; the last holds responsibilities [N, K].
                The objective must be a function of the parameters alone: no dropout in training mode.
            n_steps: maximum number of steps on all rows, and on each subsample.
            tolerance: nats per object; the steps end once one gains less.
        """
        data = detached(data)
        undone_if_it_raises(lambda: self._improve(data, n_steps, tolerance), self.kept)

    def _improve(self, data: Tensors, n_steps: int, tolerance: float) -> None:
        value = self._objective_value(data)
        subsamples = list(growing_subsamples(data)) if self._use_subsamples and sums_over_rows(self.module) else []
        if subsamples:
            coarse = partial(
                self._take_lbfgs_steps, n_steps=n_steps, tolerance=max(tolerance, SUBSAMPLE_TOLERANCE), whole=False
            )
            reached = self._unless_lowered(coarse, subsamples, data, value)
            self._use_subsamples, value = reached > value, reached
        fine = partial(self._take_lbfgs_steps, n_steps=n_steps, tolerance=tolerance)
        self._unless_lowered(fine, [data], data, value)

    def _unless_lowered(
        self, take_steps: Callable[[Tensors], None], parts: Sequence[Tensors], data: Tensors, before: float
    ) -> float:
        """Take steps on each part, undo them if they lower the objective of ``data``, and return the objective."""
        state = {name: value.clone() for name, value in self.module.state_dict().items()}
        try:
            for part in parts:
                take_steps(part)
            after = self._objective_value(data)
        except ValueError as error:
            pass_on(error)
            # A step was so long that a distribution refused its parameters.
            after = -math.inf
        if after >= before:
            return after
        self.module.load_state_dict(state)
        return before

    def _take_lbfgs_steps(self, data: Tensors, *, n_steps: int, tolerance: float, whole: bool = True) -> None:
        in_blocks = whole and self._adds_blocks
        parts = sums.parts(*data) if in_blocks else [data]
        seen = sums.total([part[-1].sum() for part in parts]) if in_blocks else data[-1].sum()
        scale = 1.0 / max(1.0, float(seen))
        with own_parameter_store(self.module) as trainable, parameters_registered(self.module):
            closure = partial(self._loss_and_gradients, scale, data)
            if in_blocks:
                closure = partial(self._loss_in_blocks, scale, parts)
            optimizer = FullDataLBFGS(trainable, n_steps, closure, tolerance=tolerance)
            self._svi_of(trainable, optimizer).step(scale, *data)

    @property
    def _adds_blocks(self) -> bool:
        """Whether the objective is a sum over blocks of rows; that of a gate of objects reads them all."""
        return sums.current() is not None and sums_over_rows(self.module)

    def _loss_and_gradients(self, scale: float, data: Tensors) -> float:
        return float(self._elbo.loss_and_grads(self._model, _no_guide, (), scale, *data))

    def _loss_in_blocks(self, scale: float, parts: Sequence[Tensors]) -> float:
        """Return the loss of the rows of all processes, and set its gradients: sums over blocks, in their order."""
        trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]

        def taken(loss: float) -> Tensor:
            found = [torch.zeros_like(one) if one.grad is None else one.grad for one in trainable]
            for one in trainable:
                one.grad = None
            value = torch.tensor([loss], dtype=torch.float64, device=parts[0][-1].device)
            return torch.cat([value, *(one.reshape(-1).double() for one in found)])

        each = [taken(self._loss_and_gradients(scale, part)) for part in parts]
        blocks = sums.current()
        assert blocks is not None
        with torch.enable_grad():
            divergence = scale * self.module.kl_divergence()
        if divergence.requires_grad:
            divergence.backward()
        # Each block has counted what does not depend on the rows.
        total = sums.total(each) - (blocks.n_blocks - 1) * taken(float(divergence))
        gradients = total[1:].split([one.numel() for one in trainable])
        for one, gradient in zip(trainable, gradients, strict=True):
            one.grad = gradient.view(one.shape).to(one)
        return float(total[0])

    def _objective_value(self, data: Tensors, *, whole: bool = True) -> float:
        with torch.no_grad(), arguments.rows_are_checked():
            if not whole or not self._adds_blocks:
                return float(self.module.partial_bound(*data))
            divergence = self.module.kl_divergence()
            each = [self.module.partial_bound(*part).double() + divergence for part in sums.parts(*data)]
            return float(sums.total(each) - divergence)

    @contextmanager
    def _svi(self, data: Tensors) -> Iterator[SVI]:
        """SVI that steps the optimiser, in a parameter store of its own."""
        if any(is_lazy(parameter) for parameter in self.module.parameters()):
            # One evaluation gives them their shapes.
            self._objective_value(tuple(part[:1] for part in data), whole=False)
        optimizer = self._torch_optimizer()
        optimizer.follow(self.module.parameters())
        with gradients_set_aside(optimizer.parameters), own_parameter_store(self.module) as trainable:
            try:
                with parameters_registered(self.module):
                    yield self._svi_of(trainable, optimizer)
            finally:
                # So that autograd refuses graphs made before: a fused kernel does not report what it changes.
                for parameter in trainable:
                    torch.autograd.graph.increment_version(parameter)

    def _svi_of(self, trainable: Sequence[Parameter], optimizer: PyroOptim) -> SVI:
        return SVI(partial(self._model, trainable), _no_guide, optimizer, self._elbo)

    def _model(self, trainable: Sequence[Parameter], scale: float, *data: Tensor) -> None:
        """Register the parameters, and score the objective."""
        for number, parameter in enumerate(trainable):
            pyro.param(f"parameter {number}", parameter)
        with poutine.scale(scale=scale):
            self.module.objective(*data)


def detached(data: Tensors) -> Tensors:
    """Detach tensors from their graphs, which an M-step must neither use nor extend.

    Args:
        data: tensors of any shapes.
    """
    return tuple(arguments.normal(part.detach()) for part in data)


def sums_over_rows(module: Part) -> bool:
    """Whether the objective is a sum over objects, which a subsample of them estimates.

    Args:
        module: a gate or experts.
    """
    return not isinstance(module, ObjectGate)


def _no_guide(*_: object) -> None:
    """The empty guide: an objective has no latent variable."""
