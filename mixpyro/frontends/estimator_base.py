"""What the estimators have in common: rows and weights in, a fitted mixture out."""

import copy
import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from mixpyro import arguments
from mixpyro.arguments.callers import level_of_caller
from mixpyro.arguments.checked import Check
from mixpyro.fitting.alike_on_ranks import refuse_processes
from mixpyro.fitting.fit import fit
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.streaming import StreamingFit
from mixpyro.frontends.column_reader import as_tensor
from mixpyro.frontends.distinct_rows import distinct_rows
from mixpyro.frontends.parameters import all_or_nothing, numbers_of, of_rows_in_memory, random_seed, random_state
from mixpyro.frontends.whole_result import Rows, of_all_rows
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.tables.given import GivenRows
from mixpyro.tables.layout import Layouts
from mixpyro.tables.returned import RowLabels

FITS = ("fit", "partial_fit")
# Checks of the parameters that all estimators have.
CHECKS: dict[str, Check] = {
    "n_components": arguments.size,
    "n_restarts": arguments.integer_from(1),
    "max_iter": arguments.integer_from(1),
    "tol": functools.partial(arguments.positive_number, zero=True),
    "random_state": random_state,
}


class MixtureEstimator(BaseEstimator):
    """A mixture of experts with the interface of scikit-learn.

    Attributes:
        mixture_: the fitted :class:`mixpyro.MixtureOfExperts`.
        result_: the :class:`mixpyro.FitResult` of ``fit``; not after ``partial_fit``.
        lower_bound_: the bound, in nats.
        converged_: whether the best restart met the stopping rule.
        n_iter_: its iterations.
    """

    n_restarts: int
    max_iter: int
    tol: float
    random_state: Any
    mixture_: MixtureOfExperts
    result_: FitResult
    lower_bound_: float
    converged_: bool
    n_iter_: int
    _stream: StreamingFit | None
    # Checks of the parameters, by their names.
    _checks: ClassVar[Mapping[str, Check]] = CHECKS
    # Part of a caution that is no news of this estimator.
    _expected_caution: ClassVar[str | None] = None

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 (scikit-learn's)
        """Let methods for users run outside of PyTorch's and NumPy's contexts, and a fit that fails change nothing."""
        super().__init_subclass__(**options)
        arguments.guard(cls, FITS, all_or_nothing)
        names = [name for name in vars(cls) if not name.startswith("_")]
        arguments.guard(cls, names, of_rows_in_memory)
        arguments.guard(cls, names, arguments.outside_contexts_on_the_cpu)
        arguments.guard(cls, names, arguments.with_default_errors)

    def _prepare(self, x: Any, y: Any, weights: Any) -> MixtureOfExperts:  # noqa: ANN401
        """Return a new mixture for rows [M, D] and [M, P], after taking what it needs to know of them."""
        raise NotImplementedError

    def _rows(self, x: Any, y: Any) -> Rows:  # noqa: ANN401
        """Return what the mixture reads of rows [N, D] and [N, P]."""
        raise NotImplementedError

    def _layouts(self) -> Layouts:
        """Return the names of the columns that :meth:`_rows` returns; called where X has names."""
        raise NotImplementedError

    def _given(self, rows: Rows, labels: RowLabels) -> GivenRows:
        """Return the rows of a fit with the names of their columns."""
        if not labels.package or not hasattr(self, "feature_names_in_"):
            return GivenRows(rows._asdict())
        return GivenRows(rows._asdict(), self._layouts(), labels.index, labels.package)

    def _fit_rows(
        self, x: np.ndarray, y: np.ndarray, sample_weight: object, groups: object = None, *, labels: RowLabels
    ) -> None:
        """Fit a new mixture to checked arrays [N, D] and [N, P]."""
        weights = checked_weights(sample_weight, len(x))
        distinct = distinct_rows(np.hstack([x, y]), weights)
        own = (as_tensor(x[distinct.first]), as_tensor(y[distinct.first]))
        own_weights = None if distinct.weights is None else as_tensor(distinct.weights)
        mixture = self._prepare(*own, own_weights)
        all_weights = None if weights is None else as_tensor(weights)
        rows = self._rows(as_tensor(x), as_tensor(y))
        # Rows of a group depend on each other, and a posterior of each object is of one row: those are kept apart.
        if groups is not None or isinstance(mixture.gate, ObjectGate):
            result = self._fitted(mixture, rows, all_weights, groups)
            self._take(dataclasses.replace(result, rows=self._given(rows, labels)))
        else:
            result = self._fitted(mixture, self._rows(*own), own_weights)
            self._take(of_all_rows(result, distinct, self._given(rows, labels), all_weights))

    def _fitted(self, mixture: MixtureOfExperts, rows: Rows, weights: Any, groups: Any = None) -> FitResult:  # noqa: ANN401
        """Return the result of a fit."""
        refuse_processes(None, f"{type(self).__name__}.fit")
        names = {"max_iterations": "max_iter", "tolerance": "tol", "weights": "sample_weight"}
        with arguments.renamed(**names), convergence_warnings(self._expected_caution):
            return fit(
                mixture,
                rows.x,
                rows.y,
                gate_x=rows.gate_x,
                weights=weights,
                groups=groups,
                n_restarts=self.n_restarts,
                max_iterations=self.max_iter,
                tolerance=self.tol,
                seed=self._seed(),
                progress=False,
            )

    def _seed(self) -> int:
        """Return a seed that is the same for the same ``random_state``."""
        return random_seed("random_state", self.random_state)

    def _take(self, result: FitResult) -> None:
        """Set what a fit has found."""
        self.result_, self.mixture_ = result, result.mixture
        self.lower_bound_, self.converged_, self.n_iter_ = result.bound, result.converged, result.n_iterations
        self._stream = None

    def _partial_fit_rows(self, x: np.ndarray, y: np.ndarray, sample_weight: object) -> None:
        """Learn from a batch of checked arrays [B, D] and [B, P]."""
        weights = checked_weights(sample_weight, len(x))
        refuse_processes(None, f"{type(self).__name__}.partial_fit")
        of_rows = None if weights is None else as_tensor(weights)
        with arguments.renamed(weights="sample_weight"), convergence_warnings(self._expected_caution):
            stream = self._stream_so_far(x, y, of_rows)
            rows = self._rows(as_tensor(x), as_tensor(y))
            stream.partial_fit(rows.x, rows.y, gate_x=rows.gate_x, weights=of_rows)
        self._stream, self.mixture_, self.n_iter_ = stream, stream.mixture, stream.n_steps + 1
        forget(self, "result_", "lower_bound_", "converged_")

    def _stream_so_far(self, x: np.ndarray, y: np.ndarray, weights: Any) -> StreamingFit:  # noqa: ANN401
        """Return the stream of the batches before, one that begins with the rows of ``fit``, or a new one."""
        if not hasattr(self, "mixture_"):
            mixture = self._prepare(as_tensor(x), as_tensor(y), weights)
            return StreamingFit(mixture, n_restarts=self.n_restarts, seed=self._seed(), progress=False)
        if self._stream is not None:
            return self._stream
        stream = StreamingFit(copy.deepcopy(self.mixture_), n_restarts=0)
        return stream.partial_fit(**self._rows_of_fit())

    def _rows_of_fit(self) -> dict[str, Any]:
        """Return the rows that ``fit`` was given, as arguments of a stream."""
        own, groups, weights = self.result_.rows, self.result_.groups, self.result_.weights
        assert own is not None
        if groups is not None and weights is not None:
            weights = groups.spread(weights)
        return {"x": own.x, "y": own.y, "gate_x": own.gate_x, "weights": weights, "groups": groups}

    def _checked(self, X: object) -> Float[np.ndarray, "N D"]:
        """Return new rows as an array, if they have the columns of the fit."""
        check_is_fitted(self, "mixture_")
        with numbers_of("X"):
            return validate_data(self, X, reset=False, dtype=np.float64)


def forget(estimator: BaseEstimator, *names: str) -> None:
    """Delete attributes that an estimator has no more.

    Args:
        estimator: any.
        names: of the attributes; those that it does not have are passed over.
    """
    for name in names:
        if hasattr(estimator, name):
            delattr(estimator, name)


def checked_weights(sample_weight: object, n_rows: int) -> Float[np.ndarray, " N"] | None:
    """Return the weights of rows as an array.

    Args:
        sample_weight: how much each row counts [N], or one number for all; None where each counts once.
        n_rows: N.

    Raises:
        ValueError: if they are of other rows, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real) and not isinstance(sample_weight, bool):
        sample_weight = np.full(n_rows, float(sample_weight))
    with numbers_of("sample_weight"):
        weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(
            f"`sample_weight` must have shape [{n_rows}], a number for each row; got {list(weights.shape)}."
        )
    if (weights < 0).any():
        raise ValueError(f"`sample_weight` must be at least 0; got {weights.min():g}.")
    if not (weights > 0).any():
        raise ValueError("`sample_weight` must be above zero in one row or more; got zero in all.")
    return weights


@contextmanager
def convergence_warnings(expected: str | None) -> Iterator[None]:
    """Raise warnings of a fit as ConvergenceWarning, which says how far to trust it; others as they are.

    Args:
        expected: what a warning is about that is not to be raised, for the estimator is meant to be so.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        if expected is not None and expected in str(one.message):
            continue
        kind = ConvergenceWarning if one.category is RuntimeWarning else one.category
        warnings.warn(str(one.message), kind, stacklevel=level_of_caller())


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a NumPy array, without its graph.

    Args:
        tensor: of any shape.
    """
    return tensor.detach().cpu().numpy()
