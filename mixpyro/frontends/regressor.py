"""Mixtures of regressions as an estimator of scikit-learn."""

import copy
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from mixpyro import arguments
from mixpyro.experts import GLMExperts, LinearExperts
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Family
from mixpyro.frontends.column_reader import Columns, as_tensor
from mixpyro.frontends.estimator_base import as_array
from mixpyro.frontends.families_by_name import ALIASES, SIMPLE
from mixpyro.frontends.named_rows import labels_of
from mixpyro.frontends.parameters import numbers_of, random_seed
from mixpyro.frontends.supervised import SupervisedMixture
from mixpyro.gates.base import Gate
from mixpyro.numerics.random_numbers import own_random_numbers

# Families that the regressor knows by name.
FAMILIES = {name: SIMPLE[name] for name in ("poisson", "negative_binomial", "zero_truncated_poisson", "student_t")}


class MixtureOfExpertsRegressor(RegressorMixin, SupervisedMixture):
    """Mixture of regressions whose weights depend on X, for scikit-learn.

    Each of K components is a regression of y on X, and a gate gives each row's probability of each component from X.
    Bayesian linear regressions and gates are fitted by variational EM; other families by maximum likelihood.

    Units and origins of X and y, the order of the rows and how they are repeated make no difference: rows are sorted,
    and equal ones are counted. A ``sample_weight`` of three is the same as three rows, to the last digit.

    Args:
        n_components: K.
        gate: "softmax" for weights that depend on X, "dirichlet" for constant ones, or a gate of mixpyro, a copy of
            which is fitted. The named one reads its columns from their medians and in units of their scales, one of
            yours as they are.
        family: of y given X and the component: "gaussian"; for counts "poisson", "negative_binomial" or
            "zero_truncated_poisson", which has no zeros; "student_t", which a few far rows do not move; a family of
            ``mixpyro.experts.families``; or experts of mixpyro, a copy of which is fitted.
        gate_columns: which columns of X the gate reads: numbers, names, a slice or a mask; None for all.
        expert_columns: which the regressions read.
        n_restarts: starts of the fit, of which the best is kept. The 20 of :func:`mixpyro.fit` are more than a grid
            search over many fits can afford; a warning says where only one of them reached the best.
        max_iter: most iterations of a restart.
        tol: what is left to gain where a restart stops, in nats a row.
        random_state: of the starts.

    Attributes:
        mixture_: the fitted :class:`mixpyro.MixtureOfExperts`.
        result_: the :class:`mixpyro.FitResult`, with tables, restarts and cautions; its gate reads scaled columns. Not
            after ``partial_fit``.
        lower_bound_: the bound, in nats.
        converged_: whether the best restart met the stopping rule.
        n_iter_: its iterations; after ``partial_fit``, batches.
        n_features_in_: D.
        feature_names_in_: names of the columns of X, where it has any.

    References:
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm.

    Example:
        >>> from mixpyro import MixtureOfExpertsRegressor
        >>> X = np.linspace(-1, 1, 80).reshape(-1, 1)
        >>> y = np.abs(X[:, 0]) + 0.01 * np.sin(90 * X[:, 0])
        >>> model = MixtureOfExpertsRegressor(random_state=0).fit(X, y)
        >>> model.predict([[-0.8], [0.8]]).round(1), round(model.score(X, y), 2)
        (array([0.8, 0.8]), 1.0)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        gate: str | Gate = "softmax",
        family: str | Family | Experts = "gaussian",
        gate_columns: Columns = None,
        expert_columns: Columns = None,
        n_restarts: int = 5,
        max_iter: int = 1000,
        tol: float = 1e-6,
        random_state: Any = None,  # noqa: ANN401 (scikit-learn's)
    ) -> None:
        self.n_components = n_components
        self.gate = gate
        self.family = family
        self.gate_columns = gate_columns
        self.expert_columns = expert_columns
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        one_output = isinstance(self.family, Family) and self.family.n_outputs == 1
        named_one = isinstance(self.family, str) and self.family != "gaussian"
        tags.target_tags.multi_output = not (one_output or named_one)
        tags.target_tags.single_output = True
        tags.target_tags.positive_only = isinstance(self.family, str) and self.family.endswith(("poisson", "binomial"))
        return tags

    def fit(
        self, X: object, y: object, sample_weight: object = None, groups: object = None
    ) -> "MixtureOfExpertsRegressor":
        """Fit the mixture.

        Args:
            X: rows [N, D].
            y: their outputs [N], or [N, P].
            sample_weight: how much each row counts [N], at least 0.
            groups: an id of the group of each row [N]. All rows of a group have one component. The columns of the gate
                must not vary within one: choose them by ``gate_columns``, or take gate="dirichlet".

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit.
            RuntimeError: if no run reached a finite bound.
        """
        x, targets = self._checked_pair(X, y, reset=True)
        self._n_axes = targets.ndim
        self._fit_rows(x, self._encoded(targets), sample_weight, groups, labels=labels_of(X))
        return self

    def partial_fit(self, X: object, y: object, sample_weight: object = None) -> "MixtureOfExpertsRegressor":
        """Learn from one more batch of rows, in memory that does not grow.

        The first batch is fitted in full, or what ``fit`` was given: make it large enough to show every component. It
        sets the scales of the columns too.

        Args:
            X: rows [B, D].
            y: their outputs [B], or [B, P].
            sample_weight: how much each row counts [B], at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit.
            RuntimeError: if no run reached a finite bound.
        """
        first = not hasattr(self, "mixture_")
        x, targets = self._checked_pair(X, y, reset=first)
        if first:
            self._n_axes = targets.ndim
        self._partial_fit_rows(x, self._encoded(targets), sample_weight)
        return self

    @overload
    def predict(self, X: object, return_std: Literal[False] = False) -> Float[np.ndarray, "N *P"]: ...

    @overload
    def predict(
        self, X: object, return_std: Literal[True]
    ) -> tuple[Float[np.ndarray, "N *P"], Float[np.ndarray, "N *P"]]: ...

    def predict(self, X: object, return_std: bool = False) -> Any:
        """Return the predictive mean of y, the regressions weighted by the gate, and its standard deviation if wanted.

        Args:
            X: rows [N, D].
            return_std: whether to return the standard deviations of single new rows too, noise included.

        Returns:
            The means [N], or [N, P] as the y of the fit; or the means and the standard deviations.
        """
        return_std = arguments.flag("return_std", return_std)
        x, own = self._inputs(X)
        mean = self._shaped(self.mixture_.predict(x, **own))
        if not return_std:
            return mean
        return mean, self._shaped(self.mixture_.predictive(x, **own).variance.sqrt())

    def predict_quantiles(self, X: object, quantiles: object = (0.05, 0.5, 0.95)) -> Float[np.ndarray, "N Q *P"]:
        """Return quantiles of the predictive distribution of single new rows.

        Args:
            X: rows [N, D].
            quantiles: probabilities [Q], above 0 and below 1.

        Returns:
            [N, Q], or [N, Q, P] for several outputs.
        """
        x, own = self._inputs(X)
        wanted = as_tensor(np.atleast_1d(arguments.of_numbers("quantiles", quantiles)))
        with arguments.renamed(probabilities="quantiles"):
            found = self.mixture_.quantile(x, wanted, **own)
        return np.stack([self._shaped(one) for one in found], axis=1)

    def sample_y(self, X: object, n_samples: int = 1, random_state: Any = 0) -> Float[np.ndarray, "N *P S"]:  # noqa: ANN401
        """Draw new y from the predictive distribution, as GaussianProcessRegressor does.

        Args:
            X: rows [N, D].
            n_samples: S, draws of each row, at least 1.
            random_state: of the draws.

        Returns:
            [N, S], or [N, P, S] for several outputs.
        """
        x, own = self._inputs(X)
        n_samples = arguments.size("n_samples", n_samples)
        with own_random_numbers(random_seed("random_state", random_state)):
            draws = self.mixture_.predictive(x, **own).sample((n_samples,))
        return np.stack([self._shaped(one) for one in draws], axis=-1)

    def _shaped(self, outputs: torch.Tensor) -> np.ndarray:
        """Return outputs [N, P] as an array of the axes that y had in the fit."""
        return as_array(outputs if self._n_axes == 2 else outputs[:, 0])

    def _checked_pair(self, X: object, y: object, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        several = self.__sklearn_tags__().target_tags.multi_output
        with numbers_of("X", "y"):
            return validate_data(self, X, y, reset=reset, dtype=np.float64, multi_output=several, y_numeric=True)

    def _encoded(self, y: np.ndarray) -> Float[np.ndarray, "N P"]:
        with numbers_of("y"):
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)

    def _reads_standardised(self) -> bool:
        return False

    def _new_experts(self, n_features: int, n_outputs: int) -> Experts:
        if isinstance(self.family, Experts):
            return copy.deepcopy(self.family)
        if isinstance(self.family, str) and self.family == "gaussian":
            return LinearExperts(self.n_components, n_features, n_outputs)
        name = ALIASES.get(self.family, self.family) if isinstance(self.family, str) else ""
        if name in FAMILIES:
            return GLMExperts(self.n_components, n_features, FAMILIES[name]())
        if isinstance(self.family, Family):
            return GLMExperts(self.n_components, n_features, self.family)
        wanted = ["gaussian", *FAMILIES]
        raise ValueError(
            f"`family` must be one of {wanted}, a family or experts of mixpyro; got {arguments.shown(self.family)}."
        )
