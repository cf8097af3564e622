"""The log joint density of rows and parameters at many draws of the parameters, with its gradient.

Assignments are summed out. Every density is that of the mixture's Pyro model, in the coordinates of
:class:`~mixpyro.intervals.free_parameters.FreeParameters`; parameters without a prior have a flat one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.arguments.late_imports import import_symbolic_shapes
from mixpyro.fitting.known_labels import without_others
from mixpyro.fitting.table import Table
from mixpyro.intervals.free_parameters import FreeParameters
from mixpyro.intervals.part_densities import AtDraws, Given, density_of
from mixpyro.intervals.responses.parts import banks_of, joined, members_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_program, slices


class LogJoint:
    """log p(y, θ | x) of a mixture and its rows, as a function of the coordinates θ.

    Args:
        mixture: in float64. It is not changed.
        table: the rows, with weights and known components if there are any.
    """

    def __init__(self, mixture: MixtureOfExperts, table: Table) -> None:
        self.mixture = mixture
        self.parameters = FreeParameters(mixture)
        self._densities = [(path, density_of(part)) for path, part in members_of(mixture)]
        self._outputs = [bank.outputs for bank in banks_of(mixture)]
        self.table = table.in_float64()
        if mixture.experts.reads_groups:
            self.table = self.table.with_columns(mixture.experts)

    def __call__(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return log p(y, θ | x) [S] in nats, rows counted by their weights, in blocks of draws and rows.

        Args:
            theta: coordinates.
        """
        return torch.cat([self._of_some(theta[draws]) for draws in slices(len(theta), self._draws_at_once)])

    def with_gradient(self, theta: Float[Tensor, "S Q"]) -> tuple[Float[Tensor, " S"], Float[Tensor, "S Q"]]:
        """Return log p(y, θ | x) of few draws, and its gradients, without a graph of all rows at once.

        Args:
            theta: coordinates.
        """
        total, gradient = theta.new_zeros(len(theta)), torch.zeros_like(theta)
        import_symbolic_shapes()
        for number, rows in enumerate(self._rows(len(theta))):
            with torch.enable_grad():
                leaf, block = theta.detach().requires_grad_(), self.table.block(rows)
                parts = self._parts(leaf)
                value = block.weighted(self._evidence(parts, block)).sum(-1)
                if number == 0:
                    value = value + self._log_prior(parts, leaf)
            gradient += torch.autograd.grad(value, leaf, torch.ones_like(value))[0]
            total += value.detach()
        return total, gradient

    def log_likelihood(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, "S N"]:
        """Return log p(yᵢ | xᵢ, θ) [S, N] in nats, without weights.

        Args:
            theta: coordinates.
        """
        parts = self._parts(theta)
        return torch.cat([self._evidence(parts, self.table.block(rows)) for rows in self._rows(len(theta))], dim=1)

    def log_prior(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return log p(θ) [S] in nats, as a density of the coordinates.

        Args:
            theta: coordinates.
        """
        return self._log_prior(self._parts(theta), theta)

    def _of_some(self, theta: Tensor) -> Tensor:
        """Return log p(y, θ | x) of so many draws that all rows fit."""
        parts = self._parts(theta)
        total = self._log_prior(parts, theta)
        for rows in self._rows(len(theta)):
            block = self.table.block(rows)
            total = total + block.weighted(self._evidence(parts, block)).sum(-1)
        return total

    def _log_prior(self, parts: list[AtDraws], theta: Tensor) -> Tensor:
        """Return the sum of the parts' densities, for each of the coordinates."""
        return sum((part.log_prior for part in parts), self.parameters.log_jacobian(theta))

    def _evidence(self, parts: list[AtDraws], block: Table) -> Tensor:
        """Return log p(yᵢ | xᵢ, θ) [S, B]."""
        gate, *banks = parts
        own = (block._replace(y=block.y[:, outputs]) for outputs in self._outputs)
        of_banks = [bank.of_rows(rows) for bank, rows in zip(banks, own, strict=True)]
        runs = max(len(part) for part in of_banks)
        segments = None if self.mixture.experts.reads_groups else block.segments
        size = block.size if segments is None else len(block.x)
        found = joined(self.mixture.experts, (part.expand(runs, -1, size) for part in of_banks))
        joint = gate.of_rows(block) + (found if segments is None else segments.sum(found))
        if block.labels is not None:
            joint = without_others(joint, block.labels)
        return joint.logsumexp(-2)

    def _parts(self, theta: Tensor) -> list[AtDraws]:
        """Return gate and experts at draws."""
        values = self.parameters.values(theta)
        logarithms = self.parameters.split(theta)
        found = []
        for path, density in self._densities:
            own = {
                site.name.removeprefix(f"{path}."): values[site.name]
                for site in self.parameters.sites
                if site.is_estimated and site.name.startswith(f"{path}.")
            }
            found.append(density(Given(values, logarithms, own, len(theta))))
        return found

    @property
    def _width(self) -> int:
        """Numbers in the largest temporary of a draw and a row."""
        return self.mixture.n_components * self.table.y.shape[1] * (self.table.x.shape[1] + 1)

    @property
    def _draws_at_once(self) -> int:
        """Draws that are evaluated together: few where there are many rows."""
        some = min(len(self.table.x), 2048)
        return rows_per_program(self._width * max(1, some), self.table.x.device)

    def _rows(self, n_draws: int) -> list[slice]:
        """Return blocks of rows for so many draws."""
        return list(self.table.slices(rows_per_program(self._width * n_draws, self.table.x.device)))
