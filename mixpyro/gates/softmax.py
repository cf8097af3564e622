"""A gate whose weights are a multinomial logistic regression on the inputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import pyro
import torch
from pyro.distributions import Categorical, Delta, Normal
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.fitted_part import Gradient
from mixpyro.gates.base import categorical_of_rows
from mixpyro.gates.logits import separated_components
from mixpyro.gates.softmax_streams import SoftmaxStreams
from mixpyro.numerics.design_matrix import with_intercept
from mixpyro.numerics.information_matrix import standard_errors
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import maximised
from mixpyro.numerics.prior_pull import MANY, MOST_PULL, prior_pull
from mixpyro.numerics.soft_labels import SoftLabels, with_reference
from mixpyro.pyro_internals.plates import refuse_outer_plates, sample_parameter
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities


class SoftmaxGate(SoftmaxStreams):
    """zᵢ ~ Categorical(softmax(0, c₂'uᵢ, …, c_K'uᵢ)) with uᵢ = [1, xᵢ]; the first component is the reference.

    The M-step is Newton's method on Σᵢₖ rᵢₖ log πₖ(xᵢ), which is concave. It finds the optimum of the default by SVI.
    Where x separates the components the maximum lies at infinity; with ``prior_scale`` it is finite.

    Args:
        n_components: K, at least 1.
        n_features: D, the number of columns of x; 0 for weights that do not depend on x.
        prior_scale: s of a Normal(0, s²) prior on every coefficient, above 0. The M-step is then the MAP estimate. None
            for maximum likelihood.
        name: prefix of the Pyro sites ``<name>.assignment`` and, with a prior, ``<name>.coefficients``, and of the
            parameter ``<name>.coefficients_estimate``.
        device: of the coefficients.
        dtype: of the coefficients; results have the dtype of x.

    Attributes:
        coefficients: log odds against the first component [K − 1, 1 + D], the intercept first.

    References:
        Böhning (1992), Multinomial logistic regression algorithm, section 2;
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm, eq. 21 and appendix A.

    Example:
        >>> gate = SoftmaxGate(2, n_features=1)
        >>> gate.weights(torch.zeros(1, 1)).tolist()
        [[0.5, 0.5]]
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"coefficients": ("gate_component", "gate_regressor")}
    finds_maximum = True

    def __init__(
        self,
        n_components: int,
        n_features: int,
        *,
        prior_scale: float | None = None,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, name=name)
        self.n_features = arguments.size("n_features", n_features, least=0)
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)
        shape = self.n_components - 1, self.n_features + 1
        self.coefficients_estimate = nn.Parameter(
            torch.zeros(shape, device=arguments.device(device), dtype=arguments.dtype(dtype))
        )
        self.weights_site = None if prior_scale is None else "coefficients"

    @property
    def coefficients(self) -> Tensor:
        """Estimated log odds against the first component [K − 1, 1 + D], without a graph.

        The memory is that of the parameter ``coefficients_estimate``. The Pyro site of this name may be a draw.
        """
        return self.coefficients_estimate.detach()

    def logits(self, x: Inputs) -> Responsibilities:
        """Return (0, c₂'u, …, c_K'u) [N, K], float64, with its gradient: of a far row float32 has no digits.

        Args:
            x: gate inputs [N, D].
        """
        return self._logits(x, self.coefficients_estimate)

    def _logits(self, x: Inputs, coefficients: Tensor) -> Tensor:
        """Logits of coefficients [K − 1, E], or [S, N, K] of S draws [S, 1, K − 1, E]."""
        x = arguments.tensor("x", x, ("N", self.n_features))
        return with_reference(
            with_intercept(x.double())
            @ (coefficients if coefficients.ndim == 2 else coefficients.squeeze(-3)).double().mT
        )

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the coefficients."""
        return [self.coefficients_estimate]

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Return Categorical(softmax of the logits); with a prior, sample the coefficients as ``<name>.coefficients``.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        if self.prior_scale is None:
            return categorical_of_rows(self.expected_log_weights(x))
        prior = Normal(x.new_zeros(self.coefficients.shape), self.prior_scale).to_event(2)
        logits = self._logits(x, sample_parameter(self.site("coefficients"), prior))
        # Normalised first: logits of far rows may be too large for x's dtype.
        return categorical_of_rows(logits.log_softmax(-1).to(x.dtype))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
        """Sample ``<name>.coefficients`` at their estimate if they have a prior: SVI then finds the MAP estimate.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
            objects: not read: a row's weights depend on x alone.
        """
        if self.prior_scale is not None:
            refuse_outer_plates(self.site("coefficients"))
            pyro.sample(self.site("coefficients"), Delta(self.coefficients_estimate.to(x.dtype), event_dim=2))

    @torch.no_grad()
    def maximise(  # type: ignore[override]
        self, x: Inputs, responsibilities: Responsibilities, *, by_gradient: Gradient | None = None, n_steps: int = 25
    ) -> None:
        """Set the coefficients to the maximum of :meth:`partial_bound` by Newton's method; Böhning (1992), eq. 2.3.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.
            by_gradient: not called: Newton's method leaves nothing to a gradient M-step.
            n_steps: most steps, at least 1.
        """
        if self.n_components > 1 and self.coefficients_estimate.requires_grad:
            functions, start = self._functions(x, responsibilities)
            found = maximised(functions, start, n_steps=n_steps, bounded=functions.bounded)
            self.coefficients.copy_(functions.original_coefficients(found)[0])

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, (K − 1)(1 + D)."""
        return self.coefficients.numel()

    @property
    def effects(self) -> set[str]:
        """Name of the coefficients; none under a prior, which shrinks them, so that no test against zero holds."""
        return {"coefficients_estimate"} if self.prior_scale is None else set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return names such as ``component 1 against 0, intercept``.

        Args:
            feature_names: names of the columns of x.
        """
        columns = ["intercept", *feature_names[: self.n_features]]
        names = [f"component {k} against 0, {column}" for k in range(1, self.n_components) for column in columns]
        return {"coefficients_estimate": names}

    @torch.no_grad()
    def standard_errors(self, x: Inputs, responsibilities: Responsibilities) -> Tensor:
        """Return standard errors of the coefficients [K − 1, 1 + D] of a gate that stands alone.

        They are those of a multinomial regression on known responsibilities. In a fitted mixture the assignments are
        not known, and the standard errors are larger: :func:`mixpyro.coefficients` has them. They take a square matrix
        of all (K − 1)(1 + D) coefficients.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].

        Returns:
            [K − 1, 1 + D]; infinite for a coefficient that the data do not determine.
        """
        x = arguments.inputs(x, n_features=self.n_features)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        _, information, transform = self.derivatives(x, r)
        back = torch.kron(torch.eye(self.n_components - 1, dtype=transform.dtype, device=transform.device), transform)
        return standard_errors(information, back).reshape(self.coefficients.shape)

    @torch.no_grad()
    def derivatives(self, x: Inputs, responsibilities: Responsibilities) -> tuple[Tensor, Tensor, Tensor]:
        """Return derivatives of :meth:`partial_bound` in the coefficients of standardised inputs, float64.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].

        Returns:
            The gradient [(K − 1) E], minus the Hessian, and T [E, E], E = 1 + D: the coefficients are T times those of
            the standardised inputs, for each component.
        """
        functions, coefficients = self._functions(x, responsibilities)
        expansion = functions.expansion(coefficients)
        return expansion.gradient[0], expansion.information()[0], functions.transform

    @torch.no_grad()
    def separations(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return whether a component is empty, or the likelihood is flat along a direction of the coefficients.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].

        Returns:
            Messages, none for a gate with a prior on its coefficients.
        """
        if self.prior_scale is not None or self.n_components == 1 or not self.coefficients_estimate.requires_grad:
            return []
        return separated_components(*self._functions(x, responsibilities), responsibilities)

    @torch.no_grad()
    def prior_warnings(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return whether the prior has moved the coefficients far from what the data say; as :meth:`separations`."""
        if self.prior_scale is None or self.n_components == 1 or not self.coefficients_estimate.requires_grad:
            return []
        totals = responsibilities.sum(-1, keepdim=True)
        pull = prior_pull(*self._functions(x, responsibilities), curvature=0.25, weights=totals)
        if pull <= MOST_PULL or responsibilities.sum() <= MANY:
            return []
        return [
            f"the prior says more of the gate's coefficients than the data do: `prior_scale`, {self.prior_scale:.3g}, "
            f"has moved them by {pull:.1f} standard errors. They are per unit of x, and the intercept is at x = 0: "
            "give a larger `prior_scale`, or standardise x."
        ]

    def _functions(self, x: Inputs, responsibilities: Responsibilities) -> tuple[LinearPredictors, Tensor]:
        """Part of the bound as a function of the coefficients, and these, both in standardised inputs."""
        functions = LinearPredictors(
            arguments.tensor("x", x, ("N", self.n_features)),
            SoftLabels(responsibilities.double()),
            n_predictors=self.n_components - 1,
            prior_scale=self.prior_scale,
        )
        return functions, functions.standardised_coefficients(self.coefficients.unsqueeze(0))
