"""A gate that is a linear softmax of the inputs: multinomial logistic regression, fitted by Newton's method."""

from collections.abc import Callable, Sequence

import pyro
import torch
from pyro.distributions import Categorical, Delta, Normal
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.gates.logits import LogitGate
from mixpyro.numerics.design_matrix import standardised, with_intercept
from mixpyro.numerics.information_matrix import standard_errors
from mixpyro.numerics.weighted_sums import weighted_gram
from mixpyro.pyro_internals.parameter_store import minus_log_normal_prior
from mixpyro.pyro_internals.plates import refuse_outer_plates, sample_parameter
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar

# A step of Newton's method halves at most this often before it is given up: the objective is flat to rounding by then.
MOST_HALVINGS = 30

# Least information, relative to that of even weights, with which the likelihood still says where its maximum is.
SMALLEST_INFORMATION = 1e-9


class SoftmaxGate(LogitGate):
    """zᵢ ~ Categorical(softmax(0, c₂'uᵢ, …, c_K'uᵢ)) with uᵢ = [1, xᵢ]; the first component is the reference.

    The M-step is Newton's method on Σᵢₖ rᵢₖ log πₖ(xᵢ), a concave function: exact, and the same optimum as the SVI
    default. Where x separates the components the maximum lies at infinity; ``prior_scale`` brings it back.

    Args:
        n_components: K.
        n_features: D, the number of columns of x; zero for a constant gate.
        prior_scale: s of a Normal(0, s²) prior on every coefficient, which makes the M-step a MAP estimate; None for
            maximum likelihood.
        name: prefix of the Pyro sites ``<name>.assignment`` and, with a prior, ``<name>.coefficients``, and of the
            parameter ``<name>.coefficients_estimate``.
        device: where the gate lives.
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
        self.n_features = arguments.integer("n_features", n_features, least=0)
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)
        shape = self.n_components - 1, self.n_features + 1
        self.coefficients_estimate = nn.Parameter(torch.zeros(shape, device=arguments.device(device), dtype=dtype))
        self.weights_site = None if prior_scale is None else "coefficients"

    @property
    def coefficients(self) -> nn.Parameter:
        """Log odds against the first component [K − 1, 1 + D]; the Pyro site of this name may hold other values."""
        return self.coefficients_estimate

    def logits(self, x: Inputs) -> Responsibilities:
        """(0, c₂'u, …, c_K'u) [N, K], in x's dtype."""
        return self._logits(x, self.coefficients.to(x.dtype))

    def _logits(self, x: Inputs, coefficients: Tensor) -> Tensor:
        """Of coefficients [K − 1, E], or of S draws [S, 1, K − 1, E]: then [S, N, K]."""
        arguments.tensor("x", x, ("N", self.n_features))
        others = with_intercept(x) @ (coefficients if coefficients.ndim == 2 else coefficients.squeeze(-3)).mT
        return torch.cat([others.new_zeros(*others.shape[:-1], 1), others], dim=-1)

    def kl_divergence(self) -> Scalar:
        """−log p of the coefficients under their prior, zero without one; a float64 scalar."""
        return minus_log_normal_prior([self.coefficients], self.prior_scale)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Categorical(softmax of the logits); with a prior, of coefficients sampled as ``<name>.coefficients``."""
        if self.prior_scale is None:
            return Categorical(logits=self.logits(x))
        prior = Normal(x.new_zeros(self.coefficients.shape), self.prior_scale).to_event(2)
        return Categorical(logits=self._logits(x, sample_parameter(self.site("coefficients"), prior)))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate, objects: ObjectIndices | None) -> None:
        """With a prior, ``<name>.coefficients`` at their estimate: SVI of model and guide is the MAP estimate."""
        if self.prior_scale is not None:
            refuse_outer_plates(self.site("coefficients"))
            pyro.sample(self.site("coefficients"), Delta(self.coefficients.to(x.dtype), event_dim=2))

    @torch.no_grad()
    def maximise(
        self,
        x: Inputs,
        responsibilities: Responsibilities,
        *,
        by_gradient: Callable[..., None] | None = None,
        n_steps: int = 25,
    ) -> None:  # type: ignore[override]
        """Newton steps, halved where they overshoot, until the objective stands still. Böhning (1992), eq. 2.3."""
        if self.n_components == 1 or not self.coefficients_estimate.requires_grad:
            return
        if n_steps > 1:
            self._start_over_if_better(x, responsibilities)
        for _ in range(n_steps):
            before = self.partial_bound(x, responsibilities)
            gained = self._newton_step(x, responsibilities, before)
            if gained <= 1e-12 * (1.0 + abs(float(before))):
                break

    def _start_over_if_better(self, x: Inputs, responsibilities: Responsibilities) -> None:
        """Go back to even weights where these are better, for far out the objective is too flat to find a way."""
        current = self.coefficients.clone()
        value = self.partial_bound(x, responsibilities)
        self.coefficients.zero_()
        if not self.partial_bound(x, responsibilities) > value:
            self.coefficients.copy_(current)

    @property
    def n_parameters(self) -> int:
        """(K − 1)(1 + D)."""
        return self.coefficients.numel()

    @property
    def effects(self) -> set[str]:
        """The coefficients; under a prior they are shrunk, and their distance from zero tests nothing."""
        return {"coefficients_estimate"} if self.prior_scale is None else set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """``component 1 against 0, intercept`` and so on."""
        columns = ["intercept", *feature_names[: self.n_features]]
        names = [f"component {k} against 0, {column}" for k in range(1, self.n_components) for column in columns]
        return {"coefficients_estimate": names}

    @torch.no_grad()
    def standard_errors(self, x: Inputs, responsibilities: Responsibilities) -> Tensor:
        """Of the coefficients [K − 1, 1 + D] if the responsibilities were known: those of a multinomial regression.

        For a gate that stands alone. In a fitted mixture the assignments are not known, and the standard errors are
        larger: :func:`mixpyro.coefficients` has them. A coefficient that the data do not determine has an infinite one.
        """
        _, information, transform = self.derivatives(x, responsibilities)
        back = torch.kron(torch.eye(self.n_components - 1).to(transform), transform)
        return standard_errors(information, back).reshape(self.coefficients.shape)

    @torch.no_grad()
    def degeneracies(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """An empty component, or a separating gate: a direction along which the likelihood has become flat."""
        if self.prior_scale is not None or self.n_components == 1:
            return []
        counts = responsibilities.sum(0)
        empty = [k for k in range(self.n_components) if counts[k] <= SMALLEST_INFORMATION * counts.sum()]
        if empty:
            return [f"component {k} has lost all objects" for k in empty]
        _, information, _ = self.derivatives(x, responsibilities)
        # Against the information that even weights would give, in the directions in which x varies at all.
        u, _ = standardised(x)
        even, directions = torch.linalg.eigh(u.mT @ u / 4.0)
        kept = even > 1e-10 * even.max()
        whitening = torch.kron(torch.eye(self.n_components - 1).to(u), directions[:, kept] * even[kept].rsqrt())
        smallest = float(torch.linalg.eigvalsh(whitening.mT @ information @ whitening).min())
        if smallest > SMALLEST_INFORMATION:
            return []
        return [f"the gate separates its components (information {smallest:.0e} of an even one); set `prior_scale`"]

    def _newton_step(self, x: Inputs, r: Responsibilities, before: Tensor) -> float:
        """Take one step; what it gained."""
        start = self.coefficients.clone()
        gradient, information, transform = self.derivatives(x, r)
        # Collinear inputs and separated components leave directions without information: hold the step there.
        ridge = 1e-10 * information.diagonal().mean() + torch.finfo(torch.float64).tiny
        damped = information + ridge * torch.eye(len(information), dtype=information.dtype, device=information.device)
        step = torch.linalg.solve(damped, gradient).reshape(start.shape) @ transform.mT
        step = step.to(start.dtype)
        for halving in range(MOST_HALVINGS):
            self.coefficients.copy_(start + 0.5**halving * step)
            gained = float(self.partial_bound(x, r) - before)
            if gained >= 0.0:
                return gained
        self.coefficients.copy_(start)
        return 0.0

    def derivatives(self, x: Inputs, responsibilities: Responsibilities) -> tuple[Tensor, Tensor, Tensor]:
        """Of the gate's part of the bound in standardised inputs: gradient [(K−1)E], minus the Hessian, and the T back.

        All float64; the coefficients are T [E, E] times those of the standardised inputs, for each component.
        """
        u, transform = standardised(x)
        r, p = responsibilities.double(), self.logits(x).double().softmax(-1)
        total, p_others = r.sum(-1, keepdim=True), p[:, 1:]
        gradient = ((r - total * p)[:, 1:]).mT @ u
        n_others, n_columns = gradient.shape
        # diag(p) − p p' of every row, times u u'.
        weights = torch.diag_embed(p_others) - p_others.unsqueeze(-1) * p_others.unsqueeze(-2)
        blocks = weighted_gram((total.unsqueeze(-1) * weights).flatten(1), u).unflatten(0, (n_others, n_others))
        information = blocks.transpose(1, 2).reshape(n_others * n_columns, n_others * n_columns)
        if self.prior_scale is not None:
            precision = self.prior_scale**-2
            gradient = gradient - precision * self.coefficients.double() @ transform
            information = information + precision * torch.kron(torch.eye(n_others).to(u), transform.mT @ transform)
        return gradient.flatten(), information, transform
