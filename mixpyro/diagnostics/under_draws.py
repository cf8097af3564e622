"""Log likelihoods, densities and predictions under every draw, in blocks of draws and rows."""

import warnings
from collections.abc import Collection, Iterator

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from mixpyro.arguments.callers import level_of_caller
from mixpyro.diagnostics.arrays import are_counts, as_numpy, counts_in_place
from mixpyro.diagnostics.draws import Draws, draw_outcomes, evaluate
from mixpyro.diagnostics.observations import Observations

# Bytes of the arrays of all objects under all draws, beyond which a warning says what to leave out.
LARGE = 4 * 2**30


class Predictions:
    """Draws of y of new objects with the same x, in one array; of whole numbers where y has probabilities.

    Args:
        data: the mixture and its rows.
        n_draws: S.

    Attributes:
        values: [S, rows], or [S, rows, P] of several outputs, rows as the caller gave them.
    """

    def __init__(self, data: Observations, n_draws: int) -> None:
        self.values = np.empty((n_draws, *(data.y.shape if data.y.shape[1] > 1 else data.y.shape[:1])))
        self.are_counts = data.mixture.experts.is_discrete
        self._data = data

    def put(self, draws: slice, objects: slice, replicated: Tensor) -> None:
        """Keep a block of draws.

        Args:
            draws: which.
            objects: which.
            replicated: [·, ·, P].
        """
        block = as_numpy(replicated)
        self.are_counts = self.are_counts and are_counts(block)
        rows = self._data.rows_as_given(objects)
        own = rows if isinstance(rows, slice) else as_numpy(rows)
        self.values[draws, own] = block.reshape(*block.shape[:2], *self.values.shape[2:])

    def array(self) -> np.ndarray:
        """Return the values, int64 where all are whole."""
        return counts_in_place(self.values) if self.are_counts else self.values


class UnderDraws:
    """What follows from the data under every draw of the parameters.

    Args:
        data: the mixture and its rows.
        drawn: draws of its parameters.
        weights: how much each object counts in ``lp`` [N]; None where each counts once.
        leave_out: names of groups that are not computed.
        progress: whether to show a progress bar after two seconds.

    Attributes:
        log_likelihood: log p(yᵢ | θₛ) [S, N] in nats; None if it is left out.
        predictions: of y; None if they are left out.
        log_priors: log density of each site [S] in nats, by name.
        lp: log p(y, θₛ) [S] in nats.
    """

    def __init__(
        self,
        data: Observations,
        drawn: Draws,
        *,
        weights: Tensor | None,
        leave_out: Collection[str],
        progress: bool,
    ) -> None:
        n_draws, n_objects = drawn.n_draws, data.n_objects
        self.log_likelihood = None if "log_likelihood" in leave_out else np.empty((n_draws, n_objects))
        self.predictions = None if "posterior_predictive" in leave_out else Predictions(data, n_draws)
        self.log_priors: dict[str, np.ndarray] = {}
        counts = np.ones(n_objects) if weights is None else as_numpy(weights)
        totals, log_prior = np.zeros(n_draws), np.zeros(n_draws)
        for draws, objects in blocks(data, n_draws, progress=progress):
            sites = {name: values[draws] for name, values in drawn.sites.items()}
            found = evaluate(
                data.objects(objects), sites, draws.stop - draws.start, replicate=self.predictions is not None
            )
            log_likelihood = as_numpy(found.log_likelihood)
            if self.log_likelihood is not None:
                self.log_likelihood[draws, objects] = log_likelihood
            if self.predictions is not None and found.replicated is not None:
                self.predictions.put(draws, objects, found.replicated)
            totals[draws] += log_likelihood.astype(np.float64) @ counts[objects]
            log_prior[draws] = as_numpy(found.log_prior)
            for name, values in found.log_priors.items():
                self.log_priors.setdefault(name, np.empty(n_draws))[draws] = as_numpy(values)
        self.lp = totals + (log_prior if drawn.log_prior is None else as_numpy(drawn.log_prior))


def predictions_of(data: Observations, drawn: Draws, *, progress: bool) -> Predictions:
    """Return draws of y of new objects with the same x.

    Args:
        data: the mixture and its rows.
        drawn: draws of its parameters.
        progress: whether to show a progress bar after two seconds.
    """
    predictions = Predictions(data, drawn.n_draws)
    for draws, objects in blocks(data, drawn.n_draws, progress=progress):
        sites = {name: values[draws] for name, values in drawn.sites.items()}
        predictions.put(draws, objects, draw_outcomes(data.objects(objects), sites, draws.stop - draws.start))
    return predictions


def blocks(data: Observations, n_draws: int, *, progress: bool) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the draws and of the objects, with a progress bar after two seconds.

    Args:
        data: the mixture and its rows.
        n_draws: S.
        progress: whether to show the bar.
    """
    with tqdm(total=n_draws * data.n_objects, unit="density", delay=2.0, disable=not progress, leave=False) as bar:
        bar.unit_scale = True
        for draws, objects in data.blocks(n_draws):
            yield draws, objects
            bar.update((draws.stop - draws.start) * (objects.stop - objects.start))


def warn_of_size(n_numbers: int, leave_out: Collection[str]) -> None:
    """Warn where the arrays of all objects under all draws take several gigabytes, and say what to leave out.

    Args:
        n_numbers: in all of them.
        leave_out: what is left out already.
    """
    n_bytes = 8 * n_numbers
    if n_bytes > LARGE:
        optional = [name for name in ("prior_predictive", "posterior_predictive") if name not in leave_out]
        advice = f"`leave_out={optional}` or a smaller `n_draws`" if optional else "a smaller `n_draws`"
        warnings.warn(
            f"the groups of all objects under all draws take {n_bytes / 2**30:.1f} GiB of memory. Pass {advice}.",
            RuntimeWarning,
            stacklevel=level_of_caller(),
        )
