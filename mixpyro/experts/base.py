"""What every bank of experts is: K densities of y given x, of one family."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from pyro.nn import pyro_method
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.experts.formulas import ExpertFormulas
from mixpyro.fitted_part import State
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Targets, Value


class Experts(ExpertFormulas):
    """K experts p(y | x, k), computed together: what conjugate and estimated ones have in common.

    Args:
        n_components: K, at least one.
        n_features: D, the number of columns of x; zero for experts that read none of them.
        n_outputs: P, the number of columns of y.
        name: prefix of the Pyro sites, as in ``experts.y``.
    """

    # Whether the likelihood is a probability of y, as for counts, rather than a density.
    is_discrete: bool = False
    # Whether y may be infinite, as limits of censored outcomes are.
    may_be_infinite: bool = False
    # Whether these are some of the components of a bank of banks.
    is_member: bool = False

    def __init__(self, n_components: int, n_features: int, n_outputs: int, *, name: str) -> None:
        super().__init__(n_components, name=name)
        self.n_features = arguments.size("n_features", n_features, least=0)
        self.n_outputs = arguments.size("n_outputs", n_outputs)
        self.first_component = 0

    @property
    def discrete_outputs(self) -> tuple[bool, ...]:
        """Whether each output has probabilities rather than a density [P]."""
        return (self.is_discrete,) * int(self.n_outputs)

    def number_components_from(self, first: int) -> None:
        """Number the components in messages from another number than zero.

        Args:
            first: number of this bank's first component in a larger bank.
        """
        self.first_component = first

    def named_together(self, components: Sequence[int] | None = None) -> str:
        """Return a name for what components have in common: ``all components``, or their numbers in a larger bank.

        Args:
            components: their numbers in this bank; all by default.
        """
        if components is None and not self.is_member:
            return "all components"
        numbers = [str(self.first_component + k) for k in components or range(self.n_components)]
        return f"component{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """Names of the buffers and parameters that have an axis of components first; none if there are networks."""
        return ()

    @property
    def may_begin_anew(self) -> bool:
        """Whether a component may take a few badly explained rows of a stream, if that raises the bound; False here."""
        return False

    def are_moderate(self, state: State) -> Bool[Tensor, "R K"] | None:
        """Return which components have estimates that a stream may take over from a few rows; None if all have.

        Args:
            state: of R runs.
        """
        return None

    def with_components(self, kept: Sequence[int]) -> "Experts":
        """Return a new bank of some of the components, with their posteriors and estimates.

        Args:
            kept: numbers of the components, in the order wanted; of a bank of banks, one bank after another.

        Raises:
            ValueError: if components are outputs of networks.
        """
        if not self.component_tensors:
            raise ValueError(
                f"`experts` must be of components that can be told apart; got {type(self).__name__}. Fit a mixture of "
                f"{len(kept)} components instead."
            )
        fewer = copy.deepcopy(self)
        for name in self.component_tensors:
            own: dict[str, Any] = fewer._parameters if name in fewer._parameters else fewer._buffers
            before = own[name]
            own[name] = before.detach()[list(kept)].clone()
            if own is fewer._parameters:
                own[name] = nn.Parameter(own[name], requires_grad=before.requires_grad)
        fewer.n_components = len(kept)
        return fewer

    def check_inputs(self, x: object) -> Tensor:
        """Return x [N, D] if it fits these experts and is finite.

        Args:
            x: inputs [N, D]. Experts without inputs take any x, and read no column of it.

        Raises:
            TypeError: if x is no floating tensor.
            ValueError: if its shape does not fit, or a value is not finite.
        """
        if self.n_features == 0:
            return arguments.inputs(x)[:, :0]
        return arguments.inputs(x, n_features=self.n_features)

    def select_inputs(self, x: Inputs) -> Tensor:
        """Return the columns of x that these experts read, without a check.

        Args:
            x: inputs of a mixture [N, D].
        """
        return x[..., :0] if self.n_features == 0 else x

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] and y [N, P] if they fit these experts and are finite.

        Args:
            x: inputs [N, D].
            y: outputs [N, P], or [N] for one output.

        Raises:
            TypeError: if x or y is no floating tensor.
            ValueError: if a shape or dtype does not fit, or a value is not finite.
        """
        checked = self.check_inputs(x)
        return checked, arguments.outputs(y, checked, n_outputs=self.n_outputs, may_be_infinite=self.may_be_infinite)

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Take an origin, scales or a default prior from the data, and forget the data seen. Nothing by default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            weights: how much each row counts [N]; None where each counts once.
        """

    def spread_of(self, y: Outputs) -> Tensor:
        """Return finite numbers, a column or more, that show where y lies: y itself by default.

        Args:
            y: outputs [N, P].
        """
        return y

    def outcomes_apart(self, y: Outputs) -> "list[tuple[Experts, Tensor]]":
        """Return the banks that score outputs by themselves, with theirs: these experts and y by default.

        Args:
            y: outputs [N, P].
        """
        return [(self, y)]

    def noise_sums(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> tuple[Value, ...]:
        """Return sums over rows that the estimate of a noise needs, for a stream to average; nothing by default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return ()

    def set_noise(self, sums: tuple[Value, ...]) -> None:
        """Set the noise to its estimate; nothing by default.

        Args:
            sums: as :meth:`noise_sums` returns them, times any number.
        """

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """Return E_q[log p(yᵢ | xᵢ, k)] [N, K] in nats, in x's dtype.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].

        Raises:
            ValueError: if one is NaN, as where sums overflow, while values are checked.
        """
        found = self.log_likelihoods(self.columns(*self.check_data(x, y)))
        return arguments.are_numbers(found, axis=-1, with_gradient=True).mT

    def partial_bound(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> Scalar:  # type: ignore[override]
        """Return the experts' share of the bound in nats, Σ r E_q[log p(y | k)] − KL(q‖p).

        Where an object has no part in a component its y may be impossible there: 0 · (−∞) counts as 0.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            responsibilities: [N, K].
        """
        return weighted_sum(responsibilities, self.expected_log_likelihood(x, y)) - self.kl_divergence()

    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return where the likelihood is unbounded, in words: such a run is not chosen. Nothing by default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return []

    def separations(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return where the likelihood is bounded but has its maximum at infinity, in words, for a warning.

        The fit is sound, and its predictions have a limit. The coefficients have none, nor standard errors. Nothing by
        default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return []

    def prior_warnings(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return where the prior of estimates, or a single row, says more than the data do; nothing by default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return []

    def cautions(self) -> list[str]:
        """Return where the prior of a posterior says more than the data do, in words; nothing by default."""
        return []

    def noises(self) -> Float[Tensor, "K _"] | None:
        """Return the noise of every component, in units in which components can be compared; None without any noise.

        One column for every output, or one for the least noise of any direction in y. NaN for a component without.
        """
        return None

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's predictive mean of y [N, K, P], in x's dtype.

        Args:
            x: inputs [N, D].
        """
        mean: Tensor = self.predictive(x).mean
        return mean

    @pyro_method
    def model(self, x: Inputs) -> Value:
        """Sample the parameters from their prior, outside any plate, and return them.

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError

    @pyro_method
    def guide(self, x: Inputs) -> Value:
        """Sample the parameters from their posterior, and return them as :meth:`model` does.

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError


def weighted_sum(responsibilities: Responsibilities, log_likelihood: Responsibilities) -> Scalar:
    """Return Σ r log p, where 0 · (−∞) counts as 0.

    Args:
        responsibilities: r [N, K].
        log_likelihood: log p [N, K] in nats.
    """
    return torch.where(responsibilities != 0, responsibilities * log_likelihood, 0.0).sum()
