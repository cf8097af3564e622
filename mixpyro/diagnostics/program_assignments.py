"""Responsibilities of the objects over the draws of a Pyro program."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor

from mixpyro import arguments as checks
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz_data, datasets_of, group
from mixpyro.diagnostics.assignments import Assignments, summary_of
from mixpyro.diagnostics.estimates import names_of_estimates
from mixpyro.diagnostics.program import checked_program, model_of
from mixpyro.diagnostics.program_draws import draws_of_samples, latent_names
from mixpyro.diagnostics.program_likelihood import Likelihood
from mixpyro.diagnostics.program_runs import Program, Results, blocks_of
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.pyro_internals.factors import Factors, aligned
from mixpyro.pyro_internals.plates import DRAWS_PLATE


class ProgramResponsibilities:
    """Responsibilities p(zᵢ = k | y, θₛ) under every draw of a Pyro program, an iterable of blocks [·, N, K].

    It may be iterated repeatedly. Other discrete sites of the program are summed out. Where the model can only be run
    for one draw after the other, the result is kept, S N K numbers.

    Args:
        data: result of :func:`mixpyro.diagnostics.program_to_arviz`; its draws are used in order, chains one after the
            other.
        model: the ConjugateSVI or Pyro model that ``data`` was made from.
        *arguments: of the model.
        site: name of the discrete site; by default the only one, or the only ``<gate>.assignment``.
        **keywords: keyword arguments of the model.

    Raises:
        ValueError: if ``data`` are not draws of the model, or ``site`` is not one of its discrete sites in a plate.

    Example:
        >>> from mixpyro.diagnostics import align, relabel
        >>> # aligned = relabel(data, align(ProgramResponsibilities(data, svi, x, y)))
    """

    def __init__(
        self,
        data: ArvizData,
        model: Callable[..., Any] | SVI,
        *arguments: Any,  # noqa: ANN401 (whatever the model takes)
        site: str | None = None,
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        posterior = group(arviz_data("data", data), "posterior")
        samples = {str(name): torch.tensor(values.values, device="cpu") for name, values in posterior.data_vars.items()}
        with torch.no_grad(), own_random_numbers(0):
            program = checked_program(model_of(model), arguments, keywords, 1)
            samples |= _estimates(data, program, (posterior.sizes["chain"], posterior.sizes["draw"]))
            drawn = draws_of_samples(samples, program, "data")
            self._stage = _Marginal(program, drawn.values, site)
        self.n_draws = drawn.n_draws
        self._kept: list[np.ndarray] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the responsibilities of all objects, a block of draws at a time."""
        if self._kept is not None:
            yield from self._kept
            return
        program, kept = self._stage.model, []
        blocks = blocks_of(program, self._stage, self.n_draws, self._stage.n_together)
        while (block := self._next(blocks)) is not None:
            yield block
            kept.append(block)
            if not program.one_by_one:
                kept.clear()
        self._kept = kept if program.one_by_one and sum(map(len, kept)) == self.n_draws else None

    @checks.outside_contexts
    def _next(self, blocks: Iterator[Results]) -> np.ndarray | None:
        """Return the next block, if there is one."""
        with torch.no_grad(), own_random_numbers(0):
            results = next(blocks, None)
        return None if results is None else results[self._stage.site].cpu().numpy()

    def summary(self, *, probability: float = 0.9) -> Assignments:
        """Summarise the responsibilities of every object over the draws.

        Args:
            probability: of the central interval, above 0 and below 1.

        Raises:
            ValueError: if the probability is not in (0, 1).
        """
        probability = checks.probability("probability", probability)
        return summary_of(np.concatenate(list(self)), probability)


def _estimates(data: ArvizData, model: Program, sizes: tuple[int, int]) -> dict[str, Tensor]:
    """Return the latent sites that the guide had one value for, in every draw [chains, draws, …]."""
    constants = datasets_of(data).get("constant_data", {})
    names = [name for name in names_of_estimates(data) if name in constants and name in latent_names(model)]
    values = {name: torch.tensor(constants[name].values, device="cpu") for name in names}
    return {name: value.expand(*sizes, *value.shape) for name, value in values.items()}


class _Marginal(Likelihood):
    """The responsibilities of a discrete site.

    Args:
        model: the program.
        drawn: draws [S, …] of its continuous latent sites, by name.
        site: name of the discrete site; None for the only one.
    """

    def __init__(self, model: Program, drawn: dict[str, Tensor], site: str | None) -> None:
        super().__init__(model, drawn)
        factors = Factors(self.trace_alone(0))
        found = [name for name, plates in factors.variables.items() if plates]
        gates = [name for name in found if name.endswith(".assignment")]
        chosen = [site] if site is not None else gates if len(gates) == 1 else found
        if len(chosen) != 1 or chosen[0] not in found:
            raise ValueError(
                f"`site` must be one of the discrete sites of the model that are in a plate, "
                f"{', '.join(found) or 'of which it has none'}; got {site}."
            )
        self.site: str = chosen[0]

    def _results(self, trace: poutine.Trace, n_draws: int | None) -> Results:
        """Return the responsibilities [S, N, K]."""
        factors = Factors(trace, outermost=DRAWS_PLATE)
        sites = next(names for names in factors.connected() if self.site in names)
        term = factors.marginal(self.site, sites)
        plates = [plate for plate in factors.order if plate in term.plates]
        sizes = [factors.sizes[plate] for plate in plates]
        values = aligned(term, [DRAWS_PLATE, *plates, self.site])
        n_components = values.shape[-1]
        return {self.site: values.expand(n_draws or 1, *sizes, -1).reshape(n_draws or 1, -1, n_components)}
