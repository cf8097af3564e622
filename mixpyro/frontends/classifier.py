"""Mixtures of logistic regressions as an estimator of scikit-learn."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from mixpyro import arguments
from mixpyro.arguments.checked import Check
from mixpyro.experts import GLMExperts
from mixpyro.experts.families import Binomial, Multinomial
from mixpyro.frontends.column_reader import Columns
from mixpyro.frontends.estimator_base import CHECKS, as_array
from mixpyro.frontends.named_rows import labels_of, layout
from mixpyro.frontends.parameters import numbers_of, unless_none
from mixpyro.frontends.supervised import SupervisedMixture
from mixpyro.gates.base import Gate
from mixpyro.tables.layout import Layouts


class MixtureOfExpertsClassifier(ClassifierMixin, SupervisedMixture):
    """Mixture of logistic regressions whose weights depend on X, for scikit-learn.

    Each of K components is a logistic regression of the class on X, and a gate gives each row's probability of each
    component from X: classes that no straight line separates, by a few that do, each in its own region.

    Units and origins of X, the order of the rows and how they are repeated make no difference: rows are sorted, and
    equal ones are counted. A ``sample_weight`` of three is the same as three rows, to the last digit.

    Args:
        n_components: K.
        gate: as for :class:`mixpyro.MixtureOfExpertsRegressor`.
        prior_scale: s of the Normal(0, s²) prior on the coefficients of each regression, for columns in units of their
            scales; 1 / s² is what one over C is to ``LogisticRegression``. None for maximum likelihood, which has no
            maximum where X separates classes.
        gate_columns: which columns of X the gate reads: numbers, names, a slice or a mask; None for all.
        expert_columns: which the regressions read.
        n_restarts: starts of the fit, of which the best is kept.
        max_iter: most iterations of a restart.
        tol: what is left to gain where a restart stops, in nats a row. Probabilities of classes hardly change beyond
            the default, and there is a long way to go: coefficients of two regressions trade off against the gate's.
        random_state: of the starts.

    Attributes:
        classes_: the classes, sorted.
        mixture_: the fitted :class:`mixpyro.MixtureOfExperts`, whose y is 0 or 1 for two classes, else a column of
            indicators for each class.
        result_: the :class:`mixpyro.FitResult`, with tables, restarts and cautions; of scaled columns. Not after
            ``partial_fit``.
        lower_bound_: the bound, in nats.
        converged_: whether the best restart met the stopping rule.
        n_iter_: its iterations; after ``partial_fit``, batches.
        n_features_in_: D.
        feature_names_in_: names of the columns of X, where it has any.

    References:
        Jacobs, Jordan, Nowlan, Hinton (1991), Adaptive mixtures of local experts.

    Example:
        >>> from mixpyro import MixtureOfExpertsClassifier
        >>> X = np.linspace(-1, 1, 80).reshape(-1, 1)
        >>> y = np.where(np.abs(X[:, 0]) > 0.5, "far", "near")
        >>> model = MixtureOfExpertsClassifier(random_state=0).fit(X, y)
        >>> model.predict([[-0.9], [0.0], [0.9]]).tolist(), model.score(X, y) > 0.95
        (['far', 'near', 'far'], True)
    """

    # A prior that moves coefficients is what a penalty is for; ``result_.cautions`` tells.
    _expected_caution: ClassVar[str | None] = "`prior_scale`"
    _checks: ClassVar[Mapping[str, Check]] = {**CHECKS, "prior_scale": unless_none(arguments.moderate_number)}

    def __init__(
        self,
        n_components: int = 2,
        *,
        gate: str | Gate = "softmax",
        prior_scale: float | None = 2.0,
        gate_columns: Columns = None,
        expert_columns: Columns = None,
        n_restarts: int = 3,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,  # noqa: ANN401 (scikit-learn's)
    ) -> None:
        self.n_components = n_components
        self.gate = gate
        self.prior_scale = prior_scale
        self.gate_columns = gate_columns
        self.expert_columns = expert_columns
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(
        self, X: object, y: object, sample_weight: object = None, groups: object = None
    ) -> "MixtureOfExpertsClassifier":
        """Fit the mixture.

        Args:
            X: rows [N, D].
            y: their classes [N], numbers or strings, two or more different ones.
            sample_weight: how much each row counts [N], at least 0.
            groups: as for :meth:`mixpyro.MixtureOfExpertsRegressor.fit`.

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit, or there is only one class.
            RuntimeError: if no run reached a finite bound.
        """
        x, labels = self._checked_pair(X, y, reset=True)
        with numbers_of("y"):
            found = np.unique(labels)
        self._set_classes(found)
        self._fit_rows(x, self._encoded(labels), sample_weight, groups, labels=labels_of(X))
        return self

    def partial_fit(
        self, X: object, y: object, classes: object = None, sample_weight: object = None
    ) -> "MixtureOfExpertsClassifier":
        """Learn from one more batch of rows, in memory that does not grow.

        The first batch is fitted in full, or what ``fit`` was given: make it large enough to show every component. It
        sets the scales of the columns too.

        Args:
            X: rows [B, D].
            y: their classes [B].
            classes: all classes that any batch may have, for the first one; those of its y by default.
            sample_weight: how much each row counts [B], at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit.
            RuntimeError: if no run reached a finite bound.
        """
        first = not hasattr(self, "mixture_")
        x, labels = self._checked_pair(X, y, reset=first)
        if first:
            with numbers_of("classes"):
                all_classes = np.unique(labels if classes is None else column_or_1d(classes))
            self._set_classes(all_classes)
        self._partial_fit_rows(x, self._encoded(labels), sample_weight)
        return self

    def predict_proba(self, X: object) -> Float[np.ndarray, "N C"]:
        """Return the predictive probability of each class [N, C], in the order of ``classes_``.

        Args:
            X: rows [N, D].
        """
        x, own = self._inputs(X)
        found = as_array(self.mixture_.predict(x, **own))
        if found.shape[1] == 1:
            found = np.hstack([1.0 - found, found])
        found = found.clip(0.0, 1.0)
        return found / found.sum(axis=1, keepdims=True)

    def predict_log_proba(self, X: object) -> Float[np.ndarray, "N C"]:
        """Return the logarithms of :meth:`predict_proba` [N, C].

        Args:
            X: rows [N, D].
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: object) -> np.ndarray:
        """Return the most probable class of each row [N].

        Args:
            X: rows [N, D].
        """
        numbers = self.predict_proba(X).argmax(axis=1)
        return self.classes_[numbers]

    def _set_classes(self, classes: np.ndarray) -> None:
        """Keep the classes, if there are two or more."""
        if len(classes) < 2:
            raise ValueError(f"`y` must have two classes or more; got one class, {arguments.shown(classes[0])}.")
        self.classes_ = classes

    def _checked_pair(self, X: object, y: object, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        with numbers_of("X", "y"):
            x, labels = validate_data(self, X, y, reset=reset, dtype=np.float64)
            check_classification_targets(labels)
            return x, column_or_1d(labels)

    def _encoded(self, y: np.ndarray) -> Float[np.ndarray, "N P"]:
        with numbers_of("y"):
            unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"`y` must have classes of the fit, {list(self.classes_)}; got {arguments.shown(unknown[0])}."
            )
        codes = np.searchsorted(self.classes_, y)
        if len(self.classes_) == 2:
            return codes.astype(np.float64)[:, None]
        return np.eye(len(self.classes_))[codes]

    def _layouts(self) -> Layouts:
        own = super()._layouts()
        return own if len(self.classes_) == 2 else own._replace(y=layout(self.classes_))

    def _reads_standardised(self) -> bool:
        return True

    def _new_experts(self, n_features: int, n_outputs: int) -> GLMExperts:
        family = Binomial() if n_outputs == 1 else Multinomial(n_outputs)
        return GLMExperts(self.n_components, n_features, family, prior_scale=self.prior_scale)
