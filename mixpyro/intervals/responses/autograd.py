"""Linear response by automatic differentiation of the collapsed bound, for any parts with smooth parameters."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mixpyro.arguments.late_imports import import_symbolic_shapes
from mixpyro.fitting.table import Table
from mixpyro.intervals.responses.closed_form import RELATIVE_ERROR, ROUNDING, TIGHT
from mixpyro.intervals.responses.coordinates import flattened, restored
from mixpyro.intervals.responses.matrices import Matrices, factor_of, whitening_of
from mixpyro.intervals.responses.parts import members_of, posterior_parts
from mixpyro.intervals.responses.rows import Block, blocks_of, evidence_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.part import EstimatedPart

# Newton steps, and halvings of one by which the bound has fallen.
MOST_STEPS = 30
MOST_HALVINGS = 10


class ByAutograd:
    """A mixture at a point of its variational and estimated parameters ψ, and the search for the optimum nearby.

    With H the Hessian of −F, F the collapsed bound Σ wᵢ logsumexpₖ ℓᵢₖ − KL, and J the derivatives of ℓ, the missing
    information is M = Σ wᵢ Jᵢ'(diag rᵢ − rᵢ rᵢ')Jᵢ, and that of the complete data H + M.

    Args:
        mixture: in float64; the search moves it.
        table: the rows.
        names: of the estimated parameters [θ], for messages.
    """

    # Of more, the derivatives would take minutes.
    most_coordinates = 2000

    def __init__(self, mixture: MixtureOfExperts, table: Table, names: list[str]) -> None:
        self.mixture, self.table = mixture, table
        self.parts = posterior_parts(mixture)
        self.parameters = [parameter for parameter in mixture.parameters() if parameter.requires_grad]
        self.values = [part.part.posterior for part in self.parts]
        vectors = [flattened(value).detach().clone() for value in self.values]
        self.leaves: list[Tensor] = [*(vector.requires_grad_() for vector in vectors), *self.parameters]
        own = [f"the posterior of the {part.name} part" for part, v in zip(self.parts, vectors, strict=True) for _ in v]
        self.names = own + names
        self._place()

    @property
    def n_coordinates(self) -> int:
        """P."""
        return sum(leaf.numel() for leaf in self.leaves)

    @torch.enable_grad()
    def matrices(self) -> Matrices:
        """Find the optimum, and return its matrices.

        Raises:
            ValueError: if there is no strict optimum.
        """
        start = self._quantities().detach()
        whitening, missing, slope = self._search()
        derivatives = _jacobian(self._quantities(), self.leaves)
        size = sum(parameter.numel() for parameter in self.parameters)
        of_posteriors = [part.response.covariance_beyond.detach() for part in self.parts]
        return Matrices(
            estimates=self._quantities().detach(),
            loadings=derivatives @ whitening.mT,
            beyond=torch.block_diag(*of_posteriors, derivatives.new_zeros(size, size)),
            missing=missing,
            priors={name: whitening @ slope_of for name, slope_of in self._priors().items()},
            scores=lambda: self._scores(whitening),
            slope=float(slope.abs().max()),
            fitted=start,
        )

    def _search(self) -> tuple[Tensor, Tensor, Tensor]:
        """Move to the optimum; return whitening, S and the slope there."""
        found, before = self._derivatives(), math.inf
        for _ in range(MOST_STEPS):
            bound, gradient, information, lost = found
            whitening = whitening_of(information + lost, self.names)
            missing, slope = whitening @ lost @ whitening.mT, whitening @ gradient
            steepness = float(slope.abs().max())
            factor = factor_of(missing)
            # Newton's method squares a small slope: one that is not halved is rounding.
            if steepness < TIGHT or 0.5 * before < steepness < ROUNDING:
                break
            before = steepness
            step = whitening.mT @ torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
            if not self._step(step, bound, steepness):
                break
            found = self._derivatives()
        return whitening, 0.5 * (missing + missing.mT), slope

    def _step(self, step: Tensor, bound: float, steepness: float) -> bool:
        """Take a Newton step, halved while the bound falls; return whether there is more to gain."""
        start = torch.cat([leaf.detach().flatten() for leaf in self.leaves])
        least = bound - RELATIVE_ERROR * (1.0 + abs(bound))
        for halving in range(MOST_HALVINGS):
            self._move(start + 0.5**halving * step)
            if self._bound() >= least:
                return steepness > ROUNDING or halving == 0
        self._move(start)
        return False

    @torch.no_grad()
    def _move(self, coordinates: Tensor) -> None:
        """Set the parameters."""
        for leaf, part in zip(self.leaves, coordinates.split([leaf.numel() for leaf in self.leaves]), strict=True):
            leaf.copy_(part.view_as(leaf))
        self._place()

    def _place(self) -> None:
        """Let the posteriors be those of the coordinates, with their gradient."""
        with torch.enable_grad():
            for part, vector, value in zip(self.parts, self.leaves, self.values, strict=False):
                part.part.hold_posterior(restored(vector, value))

    @torch.no_grad()
    def _bound(self) -> float:
        """Return the bound in nats."""
        evidence = sum(float((evidence_of(block)[1] * block.weights).sum()) for block in self._blocks())
        return evidence - float(self._divergence())

    def _divergence(self) -> Tensor:
        """Return KL of gate and experts in nats."""
        return self.mixture.gate.kl_divergence() + self.mixture.experts.kl_divergence()

    def _derivatives(self) -> tuple[float, Tensor, Tensor, Tensor]:
        """Return bound, gradient [P], information H [P, P] and missing information M [P, P]."""
        value = -self._divergence()
        bound, (gradient, hessian) = float(value.detach()), _two_derivatives(value, self.leaves)
        missing = torch.zeros_like(hessian)
        for block in self._blocks():
            counted = block.weights > 0.0
            evidence = torch.where(counted, block.weights * block.log_joint.logsumexp(0), 0.0).sum()
            first, second = _two_derivatives(evidence, self.leaves)
            slopes, r = self._slopes(block)
            mean = (r.unsqueeze(-1) * slopes).sum(0)
            deviation = (slopes - mean).flatten(0, 1)
            missing += (deviation * (r * block.weights).flatten().unsqueeze(-1)).mT @ deviation
            bound, gradient, hessian = bound + float(evidence.detach()), gradient + first, hessian + second
        return bound, gradient, -0.5 * (hessian + hessian.mT), missing

    def _slopes(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return derivatives of the log joint [K, B, P], zero where r is, and r [K, B]."""
        r = evidence_of(block._replace(log_joint=block.log_joint.detach()))[0]
        possible = torch.where(r > 0.0, block.log_joint, 0.0)
        return _by_double_backward(possible, self.leaves), r

    def _scores(self, whitening: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the scores of blocks of rows."""
        with torch.enable_grad():
            for block in self._blocks():
                slopes, r = self._slopes(block)
                own = ((r * block.weights).unsqueeze(-1) * slopes).sum(0)
                yield block.rows, own @ whitening.mT

    def _blocks(self) -> Iterator[Block]:
        """Yield blocks of rows."""
        return blocks_of(self.mixture, self.table, width=self.n_coordinates * self.mixture.n_components)

    def _quantities(self) -> Tensor:
        """Return E_q[g] of posteriors, then estimated parameters [Q]."""
        return torch.cat([*(part.response.quantities for part in self.parts), *(p.flatten() for p in self.parameters)])

    def _priors(self) -> dict[str, Tensor]:
        """Return gradients of E_q of the log densities of priors [P], by the part's name; of parts with a prior."""
        posteriors = {part.name: part for part in self.parts}
        found = {}
        for name, part in members_of(self.mixture):
            if name in posteriors:
                own = posteriors[name].part
                # What the prior has a posterior of is at its best: its own slope is zero.
                prior = own.prior_given(nested.apply(torch.detach, own.posterior))
                value = posteriors[name].response.expected_log_prior(prior)
                of_concentration = getattr(part, "concentration_prior", None)
                if of_concentration is not None:
                    value = value + of_concentration.log_prob(part.prior_concentration.double()).sum()
            elif isinstance(part, EstimatedPart) and part.prior_scale is not None:
                value = -part.kl_divergence()
            else:
                continue
            found[name] = nested.flat(_gradients(value, self.leaves)).detach()
        return found


def _gradients(
    value: Tensor, leaves: list[Tensor], *, create_graph: bool = False, by: Tensor | None = None
) -> Sequence[Tensor]:
    """Return gradients, zero for leaves that the value does not depend on, and keep its graph."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    import_symbolic_shapes()
    return torch.autograd.grad(
        value, leaves, by, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _two_derivatives(value: Tensor, leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return gradient [P] and Hessian [P, P] of a scalar."""
    gradient = nested.flat(_gradients(value, leaves, create_graph=True))
    return gradient.detach(), _jacobian(gradient, leaves)


def _jacobian(values: Tensor, leaves: list[Tensor]) -> Tensor:
    """Return derivatives [Q, P] of a vector [Q], row by row."""
    return torch.stack([nested.flat(_gradients(value, leaves)).detach() for value in values])


def _by_double_backward(values: Tensor, leaves: list[Tensor]) -> Tensor:
    """Return derivatives [K, B, P] of values [K, B]: of the gradient's P entries in the weights of the values."""
    weights = torch.zeros_like(values, requires_grad=True)
    gradient = nested.flat(_gradients(values, leaves, create_graph=True, by=weights))
    return torch.stack([_gradients(entry, [weights])[0] for entry in gradient], dim=-1)
