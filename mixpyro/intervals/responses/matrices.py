"""What linear response is computed from, however it was found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixpyro.numerics.information_matrix import spectrum
from mixpyro.numerics.largest_eigenvalue import largest_eigenvalue

# Information of the complete data less the missing, relative to the complete: below it the optimum is not strict.
LEAST_INFORMATION = 1e-12


@dataclass(frozen=True)
class Matrices:
    """A tight optimum in P coordinates u in which the complete data have unit information.

    Attributes:
        estimates: E_q[g] of the quantities [Q].
        loadings: Cov_q(g, u) [Q, P]; ∂g/∂u for estimated parameters.
        beyond: part of Cov_q(g) that no coordinate explains [Q, Q].
        missing: S [P, P], the information that is missing because assignments are unknown.
        priors: derivative of E_q of the log density of each prior [P], by the part's name.
        scores: iterator over blocks of rows, each with the derivatives of its weighted log evidences [B, P].
        slope: largest derivative of the bound, in units of posterior standard deviations; zero at the optimum.
        fitted: E_q[g] where the fit had ended [Q].
    """

    estimates: Tensor
    loadings: Tensor
    beyond: Tensor
    missing: Tensor
    priors: dict[str, Tensor]
    scores: Callable[[], Iterator[tuple[slice, Tensor]]]
    slope: float
    fitted: Tensor

    @cached_property
    def shares(self) -> Tensor:
        """Eigenvalues of S, ascending: the fractions of missing information; [P]."""
        return torch.linalg.eigvalsh(self.missing)

    @property
    def missing_information(self) -> float:
        """The largest eigenvalue of S; zero without coordinates."""
        return largest_eigenvalue(self.missing) if len(self.missing) else 0.0

    @cached_property
    def factor(self) -> Tensor:
        """Cholesky factor of I − S [P, P]."""
        return factor_of(self.missing)

    @cached_property
    def response(self) -> Tensor:
        """(I − S)⁻¹ loadings' [P, Q]: how the coordinates move when the posterior is tilted by each quantity."""
        return torch.cholesky_solve(self.loadings.mT, self.factor)

    @property
    def mean_field(self) -> Tensor:
        """Covariance of the quantities were the responsibilities known [Q, Q]."""
        return self.beyond + self.loadings @ self.loadings.mT

    @property
    def covariance(self) -> Tensor:
        """Covariance of the quantities by linear response [Q, Q]."""
        half = torch.linalg.solve_triangular(self.factor, self.loadings.mT, upper=False)
        return self.beyond + half.mT @ half

    @property
    def finite_covariance(self) -> Tensor:
        """The covariance, of what the coordinates explain alone where a variance is infinite [Q, Q]."""
        beyond = torch.where(self.beyond.isfinite(), self.beyond, 0.0)
        half = torch.linalg.solve_triangular(self.factor, self.loadings.mT, upper=False)
        return beyond + half.mT @ half

    @property
    def moved(self) -> float:
        """How far the optimum is from the fit, in standard deviations, the most of any quantity."""
        if not len(self.estimates):
            return 0.0
        return float(((self.estimates - self.fitted).abs() / self.covariance.diagonal().sqrt()).max())


def factor_of(missing: Tensor) -> Tensor:
    """Return the Cholesky factor of I − S.

    Args:
        missing: S [P, P].

    Raises:
        ValueError: if it is not positive definite.
    """
    present = -missing
    present.diagonal().add_(1.0)
    factor, failed = torch.linalg.cholesky_ex(present)
    if bool(failed) or not bool((factor.diagonal().square() > LEAST_INFORMATION).all()):
        raise ValueError(
            "`result` must be at a strict maximum of the bound; got one where some parameters are not determined "
            "once the assignments are unknown. Fit to a smaller `tolerance`, with fewer components, or with a prior."
        )
    return factor


def whitening_of(complete: Tensor, names: list[str]) -> Tensor:
    """Return R⁻¹ for the complete information R R' [P, P].

    Args:
        complete: symmetric [P, P].
        names: of the parameters [P], for the message.

    Raises:
        ValueError: if it is not positive definite.
    """
    scale = complete.diagonal().clamp_min(torch.finfo(complete.dtype).tiny).rsqrt()
    correlation = scale.unsqueeze(-1) * complete * scale
    factor, failed = torch.linalg.cholesky_ex(correlation)
    if (
        not bool(complete.isfinite().all())
        or bool(failed)
        or not bool(factor.diagonal().square().min() > LEAST_INFORMATION)
    ):
        _, directions = spectrum(complete.nan_to_num())
        involved = names[int((directions[:, 0] / scale).abs().argmax())]
        raise ValueError(
            "`result` must be at a strict maximum of the bound; got one where the data and the prior do not determine "
            f"{involved}, or that is no maximum. Fit to a smaller `tolerance`, leave out collinear columns, or set "
            "`prior_scale`."
        )
    identity = torch.eye(len(complete), dtype=complete.dtype, device=complete.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False) * scale
