"""What the restarts of a fit have reached: their runs, and the optima at which they ended."""

from dataclasses import dataclass, field

from torch import Tensor

from mixpyro.mixture import MixtureState

# Optima that a summary lists.
MOST_OPTIMA = 5


@dataclass(frozen=True)
class Run:
    """One run of variational EM from one start.

    Attributes:
        trace: the bound at every iteration, in nats. An accelerated run repeats it where a state was not taken.
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
class Optimum:
    """A point where one run or several have ended.

    Attributes:
        bound: at the point, in nats.
        runs: numbers of the runs that ended there.
        converged: whether the stopping rule was met; if not, the runs were given up on the way to the optimum, because
            it is lower than the best, or the iterations ran out.
        degeneracies: what makes the maximum worthless, in words.
        cautions: what to look at before trusting it, in words.
        state: of the mixture there; None where the fit kept better ones instead.
        smallest_share: share of the rows in the smallest component, of those that have rows where the gate finds how
            many there are; None without a state.
        noise_ratio: the smallest noise of a component over the largest, in the output where they differ most. None
            without a state or a noise. A spurious maximum has a component of few rows and little noise.
        findings: what else :attr:`FitResult.cautions` would say of a fit that had ended there, in words.
        counts: objects in each component [K], each times its weight, of all processes, float64; None without a state.
        responsibilities: q(z) [N, K] there, which :meth:`FitResult.optimum` needs; kept of the ``MOST_OPTIMA`` best.
    """

    bound: float
    runs: tuple[int, ...]
    converged: bool
    degeneracies: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    state: MixtureState | None = field(repr=False, default=None)
    smallest_share: float | None = None
    noise_ratio: float | None = None
    findings: tuple[str, ...] = field(repr=False, default=())
    counts: Tensor | None = field(repr=False, compare=False, default=None)
    responsibilities: Tensor | None = field(repr=False, compare=False, default=None)

    @property
    def n_runs(self) -> int:
        """Number of runs that ended there."""
        return len(self.runs)

    def __str__(self) -> str:
        """Summarise the optimum in one line."""
        words = "; ".join([*self.degeneracies, *self.cautions])
        restarts = "1 restart" if self.n_runs == 1 else f"{self.n_runs} restarts"
        reached = f"bound {self.bound:.4f} nats, {'reached' if self.converged else 'not yet converged'} by {restarts}"
        reached += "" if self.smallest_share is None else f", smallest share {self.smallest_share:.1%}"
        reached += "" if self.noise_ratio is None else f", smallest noise {self.noise_ratio:.2g} of the largest"
        return f"{reached}: {words}" if words else reached
