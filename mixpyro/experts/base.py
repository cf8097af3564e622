"""What every bank of experts is: K densities of y given x, of one family."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.pyro_internals.parameter_store import numbered_entries, refuse_shared_parameters
from mixpyro.shapes import Inputs, Responsibilities, Scalar, Targets

Statistics = TypeVar("Statistics", bound=tuple[Tensor, ...])


class Experts(PyroModule):
    """K experts p(y | x, k) of one family, computed together, with an analytic posterior over their parameters.

    A subclass gives the methods that raise ``NotImplementedError`` here. Statistics are sums over objects, so those of
    blocks, minibatches and machines may be added with :func:`add_statistics`.

    Args:
        n_components: K, at least one.
        n_features: D, the number of columns of x; zero for experts that look at none of them.
        n_outputs: P, the number of columns of y.
        name: prefix of the Pyro sites, as in ``experts.y``.
    """

    # What the axes of a draw of each latent site are, for output with names: component, output, feature or regressor.
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # State with an axis of components first, of a family whose components have nothing in common but their prior. A
    # subclass says so again, or its fits go on by themselves.
    component_buffers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_components: int, n_features: int, n_outputs: int, *, name: str) -> None:
        super().__init__(name)
        self.n_components = arguments.integer("n_components", n_components)
        self.n_features = arguments.integer("n_features", n_features, least=0)
        self.n_outputs = arguments.integer("n_outputs", n_outputs)
        self.first_component = 0

    def number_components_from(self, first: int) -> None:
        """Call these experts' components ``first``, ``first + 1``, … in messages: they are part of a larger bank."""
        self.first_component = first

    @property
    def is_discrete(self) -> bool:
        """Whether the likelihood is a probability of y, as for counts, rather than a density."""
        return False

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """E_q[log p(yᵢ | xᵢ, k)] [N, K] in nats, in x's dtype."""
        raise NotImplementedError

    def centre(self, x: Inputs, y: Targets) -> None:
        """Count x and y from where they lie if that helps precision, and forget the data seen. Nothing by default."""

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> tuple[Tensor, ...]:
        """Sums over objects that the conjugate update needs, float64."""
        raise NotImplementedError

    def update(self, statistics: Any, step_size: float = 1.0) -> None:  # noqa: ANN401 (each family has its own)
        """Set the posterior to its optimum given ``statistics``; ``step_size`` below 1 goes part of the way."""
        raise NotImplementedError

    def maximise(self, x: Inputs, y: Targets, responsibilities: Responsibilities, *, n_steps: int = 25) -> bool:
        """Set the experts' parameters to the maximum of :meth:`partial_bound`, where there is a better way than SVI.

        Frozen parameters stay. At most ``n_steps`` steps are taken where steps lead there.

        Returns:
            Whether there is. If not, nothing has happened, and ``mixpyro.fitting.gradient.m_step`` does it by gradient.
        """
        return False

    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """What makes the experts' maximum of the likelihood worthless, in words; nothing where posteriors forbid it."""
        return []

    def cautions(self) -> list[str]:
        """What in the posteriors an analyst should look at before believing them, in words."""
        return []

    def kl_divergence(self) -> Scalar:
        """KL(q‖p) of all experts' parameters in nats, float64."""
        raise NotImplementedError

    def divergences(self) -> Float[Tensor, " K"]:
        """KL(q‖p) of each component's parameters in nats, float64, where :attr:`has_separate_components`."""
        raise NotImplementedError

    @property
    def has_separate_components(self) -> bool:
        """Whether components share no parameter, so that several banks can be updated as one large one."""
        return bool(self.component_buffers)

    @property
    def n_parameters(self) -> int:
        """How many free parameters the experts have."""
        raise NotImplementedError

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Posterior predictive distribution of every expert's y, batch shape [N, K] and event shape [P]."""
        raise NotImplementedError

    def predict(self, x: Inputs) -> Tensor:
        """Every expert's predictive mean of y [N, K, P], in x's dtype."""
        raise NotImplementedError

    def model(self, x: Inputs) -> Any:  # noqa: ANN401
        """Pyro model of the parameters: sample them from their prior, outside any plate, and return them."""
        raise NotImplementedError

    def likelihood(self, x: Inputs, parameters: Any, assignment: Tensor) -> TorchDistributionMixin:  # noqa: ANN401
        """p(y | x, z, parameters), batch shape [N] and event shape [P], for what :meth:`model` returned and z [N].

        Under enumeration z is [K, 1, …] and so is the batch shape.
        """
        raise NotImplementedError

    def guide(self, x: Inputs) -> Any:  # noqa: ANN401
        """Pyro guide: sample the parameters from their analytic posterior, and return them as :meth:`model` does."""
        raise NotImplementedError

    def partial_bound(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> Scalar:
        """The experts' part of the bound in nats, Σ r E_q[log p(y | k)] − KL(q‖p).

        Where an object has no part in a component its y may be impossible there: 0 · (−∞) is 0.
        """
        weighted = responsibilities * self.expected_log_likelihood(x, y)
        return torch.where(responsibilities != 0, weighted, 0.0).sum() - self.kl_divergence()

    @pyro_method
    def objective(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> None:
        """Pyro model of the M-step: a factor ``<name>.objective``, the experts' part of the bound."""
        refuse_shared_parameters(self)
        pyro.factor(self.site("objective"), self.partial_bound(x, y, responsibilities))

    @property
    def effects(self) -> set[str]:
        """Parameters whose entries are effects, each of which may be tested against none."""
        return set()

    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """A name for every entry of every parameter, in the parameter's order; numbers by default.

        Args:
            feature_names: of the columns of x.
        """
        return numbered_entries(self)

    def site(self, name: str) -> str:
        """Full name of the experts' site ``name``, such as ``experts.y``."""
        return f"{self._pyro_name}.{name}" if self._pyro_name else name

    def check_inputs(self, x: object) -> Tensor:
        """Return x [N, D] if it fits these experts and is finite; experts without inputs take any x, and leave it."""
        if self.n_features == 0:
            return arguments.inputs(x)[:, :0]
        return arguments.inputs(x, n_features=self.n_features)

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] and y [N, P] if they fit these experts and are finite."""
        checked = self.check_inputs(x)
        return checked, arguments.outputs(y, checked, n_outputs=self.n_outputs)


def add_statistics(first: Statistics, second: Statistics) -> Statistics:
    """Sum of the statistics of two sets of objects."""
    # As type(first)(*…), but with the structure that statistics of several banks have.
    return first._make(a + b for a, b in zip(first, second, strict=True))  # type: ignore[attr-defined]


def blend_statistics(*weighted: tuple[float, Statistics]) -> Statistics:
    """Weighted sum of statistics."""
    parts = zip(*(part for _, part in weighted), strict=True)
    sums = (sum(weight * value for (weight, _), value in zip(weighted, values, strict=True)) for values in parts)
    return weighted[0][1]._make(sums)  # type: ignore[attr-defined]
