"""What a fit gives back."""

from dataclasses import dataclass, field

from torch import Tensor

from mixpyro.mixture import MixtureOfExperts


@dataclass(frozen=True)
class Run:
    """One run of variational EM from one start.

    Attributes:
        trace: the bound at every iteration, in nats.
        converged: whether the stopping rule was met before the iterations ran out.
        degeneracies: what makes its maximum worthless, in words; such a run is not chosen while there is another.
    """

    trace: tuple[float, ...]
    converged: bool
    degeneracies: tuple[str, ...] = ()

    @property
    def bound(self) -> float:
        """The bound that the run reached, in nats."""
        return self.trace[-1]


@dataclass(frozen=True)
class FitResult:
    """A fitted mixture and how it was found.

    Attributes:
        mixture: the mixture that was passed to the fit, holding the posteriors of the best run.
        responsibilities: q(z) [N, K] under these posteriors.
        best: number of the best run.
        runs: every restart, in order.
        weights: of the rows [N], where the fit had any.
        interrupted: whether Ctrl-C ended the fit before all restarts were done.
    """

    mixture: MixtureOfExperts = field(repr=False)
    responsibilities: Tensor = field(repr=False)
    best: int
    runs: tuple[Run, ...] = field(repr=False)
    weights: Tensor | None = field(repr=False, default=None)
    interrupted: bool = False

    @property
    def bound(self) -> float:
        """What the best run reached, in nats; ``mixture.bound`` of the same data where rows have no weights.

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

    def n_reached_best(self, tolerance: float = 1e-3) -> int:
        """How many runs ended within ``tolerance`` nats of the best, degenerate ones not counted."""
        same = [run for run in self.runs if bool(run.degeneracies) == bool(self.degeneracies)]
        return sum(run.bound >= self.bound - tolerance for run in same)

    def __str__(self) -> str:
        """One sentence for a person."""
        state = "converged" if self.converged else "NOT converged"
        n_degenerate = sum(bool(run.degeneracies) for run in self.runs)
        rest = f", {n_degenerate} were degenerate" if n_degenerate else ""
        return (
            f"bound {self.bound:.4f} nats, {state} after {self.n_iterations} iterations; "
            f"{self.n_reached_best()} of {len(self.runs)} restarts reached it{rest}"
        )
