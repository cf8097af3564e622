"""Mixtures of Gaussians, for densities and clusters, as an estimator of scikit-learn."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.checked import Check
from mixpyro.experts import GaussianExperts
from mixpyro.fitting.result import FitResult
from mixpyro.frontends.column_reader import as_tensor
from mixpyro.frontends.estimator_base import CHECKS, MixtureEstimator, as_array, forget
from mixpyro.frontends.named_rows import labels_of, layout
from mixpyro.frontends.parameters import numbers_of, one_of, random_seed, unless_none
from mixpyro.frontends.whole_result import Rows, in_order
from mixpyro.gates import DirichletGate, StickBreakingGate
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.shapes import Inputs, Outputs
from mixpyro.tables.layout import Layouts

# What scikit-learn calls a structure of covariances, and what mixpyro does.
COVARIANCES = {"full": "full", "tied": "tied", "diag": "diagonal", "spherical": "spherical"}
WEIGHT_PRIORS = ("dirichlet_process", "dirichlet_distribution")
# What experts call the parameters, and what the estimator does.
PRIORS = {
    "mean": "mean_prior",
    "mean_precision": "mean_precision_prior",
    "degrees_of_freedom": "degrees_of_freedom_prior",
    "scale": "covariance_prior",
}


class BayesianMixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, DensityMixin, MixtureEstimator):
    """Bayesian mixture of Gaussians that finds how many components there are, for scikit-learn.

    It has the interface of ``BayesianGaussianMixture``. Priors that are left out are weak on the location and scale of
    the data, so that units and origins of the columns make no difference, with a diagonal or full covariance. Of a
    Dirichlet process the fit merges, deletes and splits components while the bound rises.

    The order of the rows and how they are repeated make no difference: rows are sorted, and equal ones are counted. A
    ``sample_weight`` of three is the same as three rows, to the last digit. Components with the most rows come first.

    Args:
        n_components: K, most components. Those that the data do not ask for end up without rows.
        covariance_type: of a component, "full", "tied", "diag" or "spherical".
        weight_concentration_prior_type: "dirichlet_process", or "dirichlet_distribution" for a symmetric Dirichlet.
        weight_concentration_prior: its concentration, above zero; 1 for the process and 1 / K for the distribution by
            default.
        mean_precision_prior: how many rows the prior of a mean is worth; weak by default.
        mean_prior: what that prior expects, a number or one for each column.
        degrees_of_freedom_prior: how many rows the prior of a covariance is worth.
        covariance_prior: its scale, as of ``scale`` in :class:`mixpyro.GaussianExperts`.
        n_restarts: starts of the fit, of which the best is kept: ``n_init`` there.
        max_iter: most iterations of a restart.
        tol: what is left to gain where a restart stops, in nats a row.
        random_state: of the starts.

    Attributes:
        weights_: posterior mean shares of the components [K], which sum to one.
        means_: posterior mean of each component's mean [K, D].
        covariances_: posterior mean of the covariances: [K, D, D] if full, [D, D] if tied, [K, D] if diagonal, [K] if
            spherical.
        n_used_: components that have half a row or more; not after ``partial_fit``.
        labels_: most probable component of each row of the fit [N]; not after ``partial_fit``.
        mixture_: the fitted :class:`mixpyro.MixtureOfExperts`, which reads X as its y.
        result_: the :class:`mixpyro.FitResult`, with restarts and cautions; not after ``partial_fit``.
        lower_bound_: the bound on the log evidence, in nats.
        converged_: whether the best restart met the stopping rule.
        n_iter_: its iterations; after ``partial_fit``, batches.
        n_features_in_: D.
        feature_names_in_: names of the columns of X, where it has any.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2;
        Blei, Jordan (2006), Variational inference for Dirichlet process mixtures.

    Example:
        >>> from mixpyro import BayesianMixture
        >>> X = np.concatenate([np.linspace(-1, 1, 40), np.linspace(9, 11, 60)]).reshape(-1, 1)
        >>> model = BayesianMixture(random_state=0).fit(X)
        >>> model.n_used_, model.means_[:2, 0].round(1).tolist(), model.predict([[0.0], [10.0]]).tolist()
        (2, [10.0, 0.0], [1, 0])
    """

    _checks: ClassVar[Mapping[str, Check]] = {
        **CHECKS,
        "covariance_type": one_of(*COVARIANCES),
        "weight_concentration_prior_type": one_of(*WEIGHT_PRIORS),
        "weight_concentration_prior": unless_none(arguments.positive_number),
    }

    def __init__(
        self,
        n_components: int = 10,
        *,
        covariance_type: str = "full",
        weight_concentration_prior_type: str = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: Any = None,  # noqa: ANN401 (a number, or one for each column)
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,  # noqa: ANN401 (a number, vector or matrix)
        n_restarts: int = 3,
        max_iter: int = 1000,
        tol: float = 1e-6,
        random_state: Any = None,  # noqa: ANN401 (scikit-learn's)
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> "BayesianMixture":
        """Fit the mixture.

        Args:
            X: rows [N, D].
            y: not read.
            sample_weight: how much each row counts [N], at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit.
            RuntimeError: if no run reached a finite bound.
        """
        with numbers_of("X"):
            x = validate_data(self, X, dtype=np.float64)
        self._fit_rows(x[:, :0], x, sample_weight, labels=labels_of(X))
        return self

    def partial_fit(self, X: object, y: object = None, sample_weight: object = None) -> "BayesianMixture":
        """Learn from one more batch of rows, in memory that does not grow.

        The first batch is fitted in full, or what ``fit`` was given: make it large enough to show every component.

        Args:
            X: rows [B, D].
            y: not read.
            sample_weight: how much each row counts [B], at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: if a shape, value or parameter does not fit.
            RuntimeError: if no run reached a finite bound.
        """
        with numbers_of("X"):
            x = validate_data(self, X, reset=not hasattr(self, "mixture_"), dtype=np.float64)
        self._partial_fit_rows(x[:, :0], x, sample_weight)
        forget(self, "labels_", "n_used_")
        return self

    @property
    def _n_features_out(self) -> int:
        """K, the number of columns that :meth:`transform` returns."""
        return self.mixture_.n_components

    @property
    def weights_(self) -> Float[np.ndarray, " K"]:
        """Posterior mean shares of the components."""
        return as_array(self.mixture_.gate.weights(torch.zeros(1, 0, dtype=torch.float64, device="cpu"))[0])

    @property
    def means_(self) -> Float[np.ndarray, "K D"]:
        """Posterior mean of each component's mean."""
        return as_array(self.mixture_.experts.means)

    @property
    def covariances_(self) -> np.ndarray:
        """Posterior mean of the covariances, of the shape that their structure has."""
        found = as_array(self.mixture_.experts.covariances)
        if self.covariance_type == "tied":
            return found[0]
        if self.covariance_type in ("diag", "spherical"):
            diagonals = np.diagonal(found, axis1=1, axis2=2)
            return diagonals.copy() if self.covariance_type == "diag" else diagonals[:, 0].copy()
        return found

    def predict_proba(self, X: object) -> Float[np.ndarray, "N K"]:
        """Return the probability of each component for each row [N, K].

        Args:
            X: rows [N, D].
        """
        x, y = self._new_rows(X)
        return as_array(self.mixture_.assign(x, y).responsibilities)

    def transform(self, X: object) -> Float[np.ndarray, "N K"]:
        """Return the probability of each component for each row [N, K], as columns for another estimator.

        Args:
            X: rows [N, D].
        """
        return self.predict_proba(X)

    def predict(self, X: object) -> Int[np.ndarray, " N"]:
        """Return the most probable component of each row [N].

        Args:
            X: rows [N, D].
        """
        return self.predict_proba(X).argmax(axis=1)

    def score_samples(self, X: object) -> Float[np.ndarray, " N"]:
        """Return the log predictive density of each row [N], in nats.

        Args:
            X: rows [N, D].
        """
        return as_array(self.mixture_.log_prob(*self._new_rows(X)))

    def score(self, X: object, y: object = None) -> float:
        """Return the mean log predictive density of rows, in nats.

        Args:
            X: rows [N, D].
            y: not read.
        """
        return float(self.score_samples(X).mean())

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,  # noqa: ANN401
    ) -> tuple[Float[np.ndarray, "S D"], Int[np.ndarray, " S"]]:
        """Draw new rows from the predictive distribution.

        Args:
            n_samples: S, at least 1.
            random_state: of the draws; the estimator's by default.

        Returns:
            The rows [S, D], and the component that each of them is from [S].
        """
        check_is_fitted(self, "mixture_")
        n_samples = arguments.size("n_samples", n_samples)
        seed = random_seed("random_state", self.random_state if random_state is None else random_state)
        empty = torch.zeros(n_samples, 0, dtype=torch.float64, device="cpu")
        with own_random_numbers(seed):
            predictive = self.mixture_.predictive(empty)
            component = predictive.mixture_distribution.sample()
            rows = predictive.component_distribution.sample()[torch.arange(n_samples, device="cpu"), component]
        return as_array(rows), as_array(component)

    def _new_rows(self, X: object) -> tuple[Tensor, Tensor]:
        """Return what the mixture reads of new rows: no inputs, and outputs."""
        y = as_tensor(self._checked(X))
        return y[:, :0], y

    def _prepare(self, x: Inputs, y: Outputs, weights: Float[Tensor, " N"] | None) -> MixtureOfExperts:
        priors: dict[str, Any] = {name: getattr(self, own) for name, own in PRIORS.items()}
        with arguments.renamed(**PRIORS, concentration="weight_concentration_prior"):
            covariance = COVARIANCES[self.covariance_type]
            experts = GaussianExperts(self.n_components, y.shape[1], covariance=covariance, **priors)
            return MixtureOfExperts(self._new_gate(), experts)

    def _new_gate(self) -> Gate:
        """Return the gate of the prior of the weights."""
        kind, alpha = self.weight_concentration_prior_type, self.weight_concentration_prior
        if kind == "dirichlet_process":
            return StickBreakingGate(self.n_components, concentration=1.0 if alpha is None else alpha)
        return DirichletGate(self.n_components, concentration=1.0 / self.n_components if alpha is None else alpha)

    def _rows(self, x: Inputs, y: Outputs) -> Rows:
        return Rows(x, y, None)

    def _layouts(self) -> Layouts:
        return Layouts(y=layout(self.feature_names_in_))

    def _take(self, result: FitResult) -> None:
        """Set what a fit has found, the components with the most rows first: labels are consecutive then."""
        labels = result.shares.argmax(1)
        most_probable = torch.bincount(labels, result.weights, minlength=self.n_components)
        sizes = list(zip(most_probable.tolist(), result.counts.tolist(), strict=True))
        result = in_order(result, sorted(range(self.n_components), key=lambda k: sizes[k], reverse=True))
        super()._take(result)
        self.labels_ = as_array(result.shares.argmax(1))
        self.n_used_ = result.n_used
