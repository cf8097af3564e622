"""SVI of any Pyro program, in which gates are updated in closed form."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import SVI, JitTraceEnum_ELBO, TraceEnum_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.signals import held_at_the_end
from mixpyro.gates.base import Gate
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.numerics.step_sizes import RobbinsMonro
from mixpyro.programs import collapsed_bound, stored_posteriors
from mixpyro.programs.explanations import explained
from mixpyro.programs.full_guide import FullGuide
from mixpyro.programs.gates_of_program import check_seen, checked_gates
from mixpyro.pyro_internals.expected_weights import GateRecord, expected_weights
from mixpyro.pyro_internals.given_sites import GuideWithoutSites
from mixpyro.pyro_internals.handlers import gradients_of_parameters, handlers_restored


class ConjugateSVI(SVI):
    """``pyro.infer.SVI`` with exact conjugate updates of gates; all other parameters are updated by gradient.

    In a step, the gates' weights are integrated out of the program under their posteriors (see
    :func:`~mixpyro.expected_weights`), so the loss is minus the mean-field bound, without noise from the weights. One
    enumeration of the assignments gives the loss, the gradients of all parameters and, as the derivative of the bound
    with respect to E_q[log π], the responsibilities. The gates go ``step_size`` of the way to their optimum, a
    natural-gradient step, and the parameters take a step of ``optim``.

    The program calls ``gate.model``, or ``gate.sample_weights`` and ``assign``, and leaves the assignments to be
    enumerated. The guide must sample neither the assignments nor the gates' weights; it may call ``gate.guide``, which
    samples nothing here. Afterwards :attr:`full_guide` is the guide with the gates' posteriors in it, for Predictive,
    ``infer_discrete``, importance sampling and :func:`~mixpyro.diagnostics.program_to_arviz`.

    **What the objective is.** Plain TraceEnum_ELBO sums the assignments out given sampled weights. Here the bound is
    that of the mean field q(z) q(π): without noise, with exact updates, and never above the other. Weights come out too
    certain where components overlap (by 37 % for two Gaussians 1.5 standard deviations apart). With ``collapsed`` the
    bound is the other one, still without noise: q(π) is the Dirichlet closest to the exact posterior. It takes second
    derivatives of the program. Objects whose likelihood does not depend on z, such as those without an outcome, say
    nothing of the weights in either.

    On all data the gates take full steps. On a subsample of a plate, statistics count N / B times and the steps are
    those of Robbins and Monro. Posteriors of single objects, and of parts in a subsampled plate, take full steps; what
    a step does not visit stays. Where the guide samples other latents, responsibilities are noisy on all data too: give
    a ``step_size``.

    A gate that nobody has updated is given a start by its ``initialise``. Posteriors are in Pyro's parameter store
    beside the parameters, as ``<name>.posterior_…``: they are saved, loaded and cleared with it.

    Args:
        model: any Pyro model.
        guide: guide of its latents other than the gates'.
        optim: Pyro optimiser of all parameters of model and guide, those of a gate's network included.
        loss: a TraceEnum_ELBO; by default one that finds the nesting of the plates itself.
        gates: a gate, or several, whose ``model`` the program calls. Any other gate is trained like the rest of the
            program.
        step_size: of the gates, a number in (0, 1] or a function of the step's number, which starts at one; by default
            1 on all data and :class:`~mixpyro.RobbinsMonro` on a subsample.
        collapsed: whether q(π) is fitted to the bound in which z is summed out given π; a step takes several times as
            long. For one DirichletGate without a ``batch_shape``, whose objects are independent given the weights; by
            quadrature for two components, by draws for more.

    Attributes:
        n_steps: number of steps taken.
        full_guide: a guide with the arguments of the model, which samples all latent variables but the assignments.

    Raises:
        TypeError: if ``loss``, ``optim`` or ``gates`` has another type.
        ValueError: if ``gates`` has one gate twice, ``step_size`` is not in (0, 1], or ``collapsed`` does not know
            these gates.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference, fig. 4;
        Khan, Lin (2017), Conjugate-computation variational inference, section 3.

    Example:
        >>> import pyro
        >>> from pyro.optim import ClippedAdam
        >>> from mixpyro import DirichletGate
        >>> gate = DirichletGate(2)
        >>> data = torch.cat([torch.zeros(30), torch.ones(10)]).double()
        >>> def model(data):
        ...     plate = pyro.plate("objects", len(data), dim=-1)
        ...     z = gate.model(data.unsqueeze(-1), plate=plate)
        ...     with plate:
        ...         pyro.sample("data", pyro.distributions.Normal(z.double(), 0.1), obs=data)
        >>> svi = ConjugateSVI(model, lambda data: None, ClippedAdam({"lr": 0.01}), gates=gate)
        >>> losses = [svi.step(data) for _ in range(3)]
        >>> gate.posterior_concentration.round().tolist()
        [31.0, 11.0]
    """

    @arguments.declared
    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: PyroOptim,
        loss: TraceEnum_ELBO | None = None,
        *,
        gates: Gate | Sequence[Gate],
        step_size: float | Callable[[int], float] | None = None,
        collapsed: bool = False,
    ) -> None:
        elbo = TraceEnum_ELBO() if loss is None else loss
        if not isinstance(elbo, TraceEnum_ELBO) or isinstance(elbo, JitTraceEnum_ELBO):
            raise TypeError(
                f"`loss` must be a TraceEnum_ELBO, which sums the assignments out; got {type(elbo).__name__}."
            )
        if not isinstance(optim, PyroOptim):
            raise TypeError(f"`optim` must be an optimiser of pyro.optim; got {type(optim).__name__}.")
        super().__init__(model, guide, optim, loss=elbo)  # type: ignore[no-untyped-call]
        self.elbo = elbo
        self.gates = checked_gates(gates)
        self.collapsed = arguments.flag("collapsed", collapsed)
        if collapsed and (len(self.gates) > 1 or type(self.gates[0]) is not DirichletGate or self.gates[0].batch_shape):
            raise ValueError(
                "`collapsed` must have one DirichletGate without a `batch_shape` in `gates`; got "
                f"{', '.join(type(gate).__name__ for gate in self.gates)}."
            )
        self.n_steps = 0
        self._step_size = None if step_size is None else arguments.step_sizes(step_size)
        self.full_guide = FullGuide(model, guide, self.gates)

    def step(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 (they are the model's)
        """Update the gates in closed form and all parameters by gradient; Ctrl-C interrupts it before or after that.

        Args:
            *args: arguments of the model and the guide.
            **kwargs: likewise.

        Returns:
            The loss before the step in nats.

        Raises:
            RuntimeError: if the model does not call a gate, or does not enumerate its assignments.
            ValueError: if the guide samples a gate's weights or assignments, the model's are given values, or the loss
                or the responsibilities are not finite; nothing has changed then.
        """
        with held_at_the_end() as signals:
            with self._programs() as (records, model, guide), gradients_of_parameters() as captured:
                loss = self.elbo.differentiable_loss(model, self._without_sites_of_gates(guide), *args, **kwargs)
                _refuse_infinite(float(loss.detach()))
                value = self._differentiate(loss, records)
                signals.held = True
                self._update_gates(records)
                self.optim(captured())
            for gate in self.gates:
                stored_posteriors.put(gate, self.n_steps)
            return value

    def _differentiate(self, loss: Tensor, records: list[GateRecord]) -> float:
        """Differentiate the loss by all parameters and terms of gates, and return its value."""
        if self.collapsed:
            return collapsed_bound.differentiate(loss, self._gate, records[0])
        loss.backward()
        return float(loss.detach()) + sum(record.silent_bound() for record in records)

    def _update_gates(self, records: list[GateRecord]) -> None:
        """Check what the program has said of all gates, then update each gate that it has visited."""
        check_seen(self.gates, records)
        self.n_steps += 1
        for gate, record in zip(self.gates, records, strict=True):
            if record.seen:
                gate.update_seen(record, self.step_size(record))

    def _begin(self) -> None:
        """Give the gates what the parameter store has for them, and new ones a start."""
        for gate in self.gates:
            n_steps = stored_posteriors.take_over(gate)
            self.n_steps = self.n_steps if n_steps is None else n_steps
            if not stored_posteriors.is_stored(gate):
                gate.initialise()

    @contextmanager
    def _programs(self) -> Iterator[tuple[list[GateRecord], Callable[..., Any], Callable[..., Any]]]:
        """Yield records of the gates, model and guide: these in the caller's contexts, all else outside of them."""
        with stored_posteriors.unchanged_by_errors(self):
            self._begin()
            model, guide = arguments.in_these_contexts(self.model), arguments.in_these_contexts(self.guide)
            with (
                handlers_restored(),
                explained(self.elbo),
                arguments.outside_of_contexts(),
                expected_weights(*self.gates) as records,
            ):
                for record in records:
                    record.is_collapsed = self.collapsed
                yield records, collapsed_bound.collapsible(model) if self.collapsed else model, guide

    @property
    def _gate(self) -> DirichletGate:
        """The gate whose posterior is fitted to the collapsed bound."""
        gate = self.gates[0]
        assert isinstance(gate, DirichletGate)
        return gate

    def _without_sites_of_gates(self, guide: Callable[..., Any]) -> Callable[..., Any]:
        """The guide, which raises where it samples a site of a gate."""
        return GuideWithoutSites(site for gate in self.gates for site in gate.latent_sites)(guide)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """Return minus the bound in nats under the current posteriors and parameters, without changing them.

        Args:
            *args: arguments of the model and the guide.
            **kwargs: likewise.
        """
        with self._programs() as (records, model, guide), torch.enable_grad():
            loss = self._differentiated(records, model, guide, *args, **kwargs)
            if self.collapsed and records[0].seen:
                likelihoods = collapsed_bound.likelihoods_of(self._gate, records[0])
                return loss - collapsed_bound.expectation(self._gate, likelihoods).value
            return loss + sum(record.silent_bound() for record in records)

    def responsibilities(self, *args: Any, **kwargs: Any) -> list[Tensor]:  # noqa: ANN401
        """Return q(z) [*plates, K] of the objects that the program sees, for each gate, without changing anything.

        Of a gate with several assignment sites, the results have an axis of the sites first. Of several particles they
        are the mean.

        Args:
            *args: arguments of the model and the guide.
            **kwargs: likewise.

        Raises:
            RuntimeError: if the model does not call a gate, or does not enumerate its assignments.
        """
        with self._programs() as (records, model, guide), torch.enable_grad():
            self._differentiated(records, model, guide, *args, **kwargs)
        check_seen(self.gates, records)
        found = []
        for record in records:
            collapsed = self.collapsed
            sites = [collapsed_bound.responsibilities(self._gate, record)] if collapsed else record.responsibilities()
            r = sites[0] if len(sites) == 1 else torch.stack(sites)
            found.append(r / r.sum(-1, keepdim=True).clamp_min(torch.finfo(r.dtype).tiny))
        return found

    def _differentiated(self, records: list[GateRecord], model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401
        """Return the loss, differentiated by the terms of the gates and by nothing else."""
        loss = self.elbo.differentiable_loss(model, guide, *args, **kwargs)
        leaves = [leaf for record in records for leaf in record.leaves()]
        if leaves and loss.requires_grad:
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
                leaf.grad = gradient
        return float(loss.detach())

    def step_size(self, seen: GateRecord) -> float:
        """Return the step size of a gate in step number ``n_steps``, in (0, 1].

        Args:
            seen: what the program has said of the gate.
        """
        if self._step_size is None:
            return RobbinsMonro()(self.n_steps) if seen.is_subsample else 1.0
        return self._step_size(self.n_steps) if callable(self._step_size) else self._step_size


def _refuse_infinite(loss: float) -> None:
    """Raise if the loss is not finite, also where Pyro's validation is off: such a step could not be undone."""
    if not math.isfinite(loss):
        raise ValueError(
            f"`model` must give a finite loss; got {loss}. Look for NaN in data and parameters, and for objects that "
            "are impossible in all components."
        )
