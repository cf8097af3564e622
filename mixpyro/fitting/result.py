"""What a fit gives back."""

import copy
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.fewer_components import renumbered, used_components, with_components
from mixpyro.fitting.outcomes import MOST_OPTIMA, Optimum, Run
from mixpyro.fitting.provenance import LEAST_DIFFERENCE, FittedData, difference_at_one_optimum
from mixpyro.fitting.result_reports import ResultReports
from mixpyro.groups import Groups
from mixpyro.mixture import ExpertsPart, GatePart, MixtureOfExperts
from mixpyro.tables.given import GivenRows


@dataclass(frozen=True, repr=False)
class FitResult(ResultReports, Generic[GatePart, ExpertsPart]):
    """A fitted mixture and how it was found.

    Objects are rows, or the groups of rows that the fit was given, in the order of their first rows.

    Attributes:
        mixture: the mixture that was passed to the fit, holding the posteriors of the best run.
        shares: q(z) [N, K] under these posteriors, a tensor; :attr:`responsibilities` is a frame for frames.
        best: number of the best run.
        runs: every restart, in order.
        weights: of the objects [N], where the fit had any; 0 for objects of which no y was observed.
        interrupted: whether Ctrl-C ended the fit before all restarts were done.
        optima: the distinct optima that runs ended at, that of the best run first, then by bound; :meth:`optimum`
            gives a result at each, :meth:`at` the mixture alone.
        cautions: the warnings of the fit, in words.
        data: numbers of rows and columns, dtype and device of what was fitted.
        options: of the fit, by the names of its arguments, the seed among them.
        versions: of mixpyro, torch, Pyro and Python.
        observed: the known components of the objects [N], −1 where one is not known; None where the fit had none.
        groups: of the rows, whose ``spread`` gives for each row what its group has; None where every row is an object.
        rows: what was fitted, x, y and gate_x, with the names of columns and the labels of rows; the caller's own
            tensors, not copies. None where a fit does not keep them.
    """

    mixture: MixtureOfExperts[GatePart, ExpertsPart] = field()
    shares: Tensor = field()
    best: int
    runs: tuple[Run, ...] = field()
    weights: Tensor | None = None
    interrupted: bool = False
    optima: tuple[Optimum, ...] = ()
    cautions: tuple[str, ...] = ()
    data: FittedData | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    observed: Tensor | None = None
    groups: Groups | None = None
    rows: GivenRows | None = None
    # A copy of the mixture, which a later fit does not change.
    _template: MixtureOfExperts[GatePart, ExpertsPart] | None = None

    @property
    def bound(self) -> float:
        """What the best run reached, in nats; ``mixture.bound`` of the same data without weights and known components.

        A lower bound on log p(y | x) where every parameter has a posterior. Parameters that are estimated (a network, a
        learnt prior) enter by their maximum, with the log density of their prior if they have one: such bounds compare
        runs, not models.
        """
        return self.runs[self.best].bound

    @property
    def trace(self) -> tuple[float, ...]:
        """The bound at every iteration of the best run, in nats."""
        return self.runs[self.best].trace

    @property
    def converged(self) -> bool:
        """Whether the best run met the stopping rule."""
        return self.runs[self.best].converged

    @property
    def n_iterations(self) -> int:
        """Iterations of the best run."""
        return len(self.trace)

    @property
    def degeneracies(self) -> tuple[str, ...]:
        """What makes the best run's maximum worthless, in words; empty but where every run was degenerate."""
        return self.runs[self.best].degeneracies

    @property
    def difference_at_one_optimum(self) -> float:
        """Nats by which the bounds of two runs may differ that have stopped at the same optimum.

        1e-3, or twice what the stopping rule leaves to gain, ``tolerance`` N, where that is more.
        """
        if self.data is None:
            return LEAST_DIFFERENCE
        tolerance = self.options.get("tolerance", 0.0)
        return difference_at_one_optimum(self.bound, tolerance, self.data.n_objects, self.data.dtype)

    def n_reached_best(self, tolerance: float | None = None) -> int:
        """Return how many runs ended at the best run's bound, those with degeneracies too.

        Args:
            tolerance: nats by which bounds may differ; :attr:`difference_at_one_optimum` by default.
        """
        difference = self.difference_at_one_optimum
        if tolerance is not None:
            difference = arguments.positive_number("tolerance", tolerance, zero=True)
        return sum(abs(run.bound - self.bound) <= difference for run in self.runs)

    @property
    def counts(self) -> Tensor:
        """Number of objects in each component [K], each times its weight, of all processes, float64."""
        if self.n_processes > 1 and self.optima and self.optima[0].counts is not None:
            return self.optima[0].counts
        r = self.shares.double()
        return (r if self.weights is None else r * self.weights.double().unsqueeze(-1)).sum(0)

    @property
    def n_processes(self) -> int:
        """Number of processes that had the rows, each some of them; :attr:`shares` are of those of this one."""
        return 1 if self.data is None else self.data.n_processes

    @property
    def n_used(self) -> int:
        """Number of components that have half an object or more: those that were found, of a gate that finds them."""
        return len(used_components(self.counts))

    def without_empty(self) -> "FitResult[GatePart, ExpertsPart]":
        """Return the result with the components that have objects alone, the largest first; this one is unchanged.

        Components without objects have the posterior that is their prior, and a StickBreakingGate gives the same
        posterior to the others whether they are there or not: what they had of the weights is beyond K then. So the
        bound is that of this result, up to what fractions of objects in empty components had in it, and up to their
        divergence from their prior, which is zero where that is conjugate. All runs are moved by that. A concentration
        with a prior has a posterior independent of the shares, which costs about 0.1 nats for each empty component:
        this is the bound without that cost.

        Raises:
            ValueError: if the gate's prior depends on the number of components, as that of a DirichletGate does, or the
                experts cannot be told apart.

        Example:
            >>> import torch
            >>> from mixpyro import LinearExperts, StickBreakingGate, fit
            >>> x = torch.linspace(0, 1, 40).double().unsqueeze(1)
            >>> y = 1 - x + 0.1 * torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).double()
            >>> result = fit(MixtureOfExperts(StickBreakingGate(4), LinearExperts(4, 1)), x, y, n_restarts=2)
            >>> result.n_used, result.without_empty().mixture.n_components
            (1, 1)
        """
        kept = used_components(self.counts, self.mixture.experts)
        mixture = with_components(self.mixture, kept)
        r = self.shares[:, kept]
        r = r / r.sum(-1, keepdim=True).clamp_min(torch.finfo(r.dtype).tiny)
        gained = float(self.mixture.kl_divergence() - mixture.kl_divergence())
        runs = tuple(dataclasses.replace(run, trace=tuple(bound + gained for bound in run.trace)) for run in self.runs)
        least = float((self.counts[kept] / self.counts.sum()).min())
        own: dict[str, Any] = {"state": mixture.state(), "smallest_share": least, "responsibilities": None}
        own["counts"] = self.counts[kept]
        optima = tuple(dataclasses.replace(one, bound=one.bound + gained, **own) for one in self.optima[:1])
        observed = None if self.observed is None else renumbered(self.observed, kept)
        return dataclasses.replace(
            self,
            mixture=mixture,
            shares=r,
            runs=runs,
            optima=optima,
            observed=observed,
            _template=copy.deepcopy(mixture),
        )

    @arguments.declared
    def at(self, number: int) -> MixtureOfExperts[GatePart, ExpertsPart]:
        """Return a new mixture with the state of an optimum.

        Args:
            number: of the optimum in :attr:`optima`; 0 is the best run's.

        Raises:
            IndexError: if there is no such optimum.
            ValueError: if its state was not kept.

        Example:
            >>> import torch
            >>> from mixpyro import DirichletGate, LinearExperts, fit
            >>> x = torch.linspace(0, 1, 20).double().unsqueeze(1)
            >>> y = 1 - x + 0.1 * torch.sin(50 * x)
            >>> result = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y)
            >>> print(len(result.optima), torch.equal(result.at(0).predict(x), result.mixture.predict(x)))
            1 True
        """
        state = self.optima[self._number(number)].state
        if state is None or self._template is None:
            raise ValueError(f"`number` must be of an optimum whose state was kept; got {number}, without a state.")
        mixture = copy.deepcopy(self._template)
        mixture.hold(state)
        return mixture

    def _number(self, number: object) -> int:
        """Return the number of an optimum, if there is one."""
        found = arguments.integer("number", number, least=-sys.maxsize)
        if not -len(self.optima) <= found < len(self.optima):
            raise IndexError(f"`number` must be below {len(self.optima)}, the number of optima; got {found}.")
        return found

    def optimum(self, number: int) -> "FitResult[GatePart, ExpertsPart]":
        """Return the result of a fit that had chosen another optimum: all reports and diagnostics take it.

        Args:
            number: of the optimum in :attr:`optima`; 0 is the best run's.

        Returns:
            A result with a new mixture, the responsibilities and bound of that optimum, and the weights, known
            components and data of this fit. Its optima begin with the one that was chosen. Its cautions say that it is
            not the one of the highest bound.

        Raises:
            IndexError: if there is no such optimum.
            ValueError: if its state or responsibilities were not kept.
        """
        number = self._number(number)
        one = self.optima[number]
        first = number in (0, -len(self.optima))
        shares = self.shares.clone() if first else one.responsibilities
        if one.state is not None and shares is None:
            raise ValueError(
                f"`number` must be of an optimum whose responsibilities were kept, one of the first {MOST_OPTIMA} "
                f"where rows are not too many; got {number}. Use `result.at({number})`, or give responsibilities to "
                "`fit` as `initial_responsibilities`."
            )
        mixture = self.at(number)
        assert shares is not None
        others = tuple(other for other in self.optima if other is not one)
        return dataclasses.replace(
            self,
            mixture=mixture,
            shares=shares,
            best=next(run for run in one.runs if self.runs[run].bound == one.bound),
            optima=(dataclasses.replace(one, responsibilities=None), *others) if not first else self.optima,
            cautions=self.cautions if first else self._cautions_at(number),
        )

    def _cautions_at(self, number: int) -> tuple[str, ...]:
        """Return what to know before trusting an optimum that is not the best run's."""
        one, best = self.optima[number], self.optima[0]
        found = [f"a chosen optimum: it has {one.bound:.6g} nats, and the best run has {best.bound:.6g}."]
        found += (
            [] if one.converged else ["the run has not converged: it was given up as worse, or ran out of iterations."]
        )
        words = (*one.degeneracies, *one.cautions)
        return (*found, *(f"{word}." for word in words), *one.findings)

    def __repr__(self) -> str:
        """Say how many components of how many objects, and how the fit ended."""
        k, n = self.mixture.n_components, len(self.shares)
        return f"FitResult({k} component{'' if k == 1 else 's'} of {n} objects: {self})"

    def __str__(self) -> str:
        """One sentence for a person."""
        state = "converged" if self.converged else "NOT converged"
        n_degenerate = sum(bool(run.degeneracies) for run in self.runs)
        rest = f", {n_degenerate} were degenerate" if n_degenerate else ""
        return (
            f"bound {self.bound:.4f} nats, {state} after {self.n_iterations} iterations; "
            f"{self.n_reached_best()} of {len(self.runs)} restarts reached it{rest}"
        )
