"""Experts whose predictors a neural network computes, trained by SVI."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule, pyro_method
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.distributed import sums as over_blocks
from mixpyro.experts.exponential_family import FamilyExperts, smallest_scale
from mixpyro.experts.families import Family, Gaussian
from mixpyro.fitted_part import Gradient
from mixpyro.numerics.precision import at_least
from mixpyro.pyro_internals.networks import (
    NetworkOutput,
    evaluate,
    last_layers,
    network_of,
    refuse_random_weights,
    trainable_parameters,
)
from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Targets


class NeuralParameters(NamedTuple):
    """Predictors of N rows, and noises."""

    predictors: Tensor  # η [N, K, C]
    scale: Tensor  # σ [K, P], ones for a family without


class NeuralExperts(FamilyExperts):
    """y | x, z = k from an exponential family with predictors fₖ(x), f any ``torch.nn.Module``, trained by SVI.

    The M-step is SVI on Σᵢₖ rᵢₖ log p(yᵢ | fₖ(xᵢ)). The Gaussian's noise is set in closed form first and trained with
    the networks. The experts have no latent variable: the bound of a mixture is its log likelihood, or with
    ``prior_scale`` the MAP objective. A network that can interpolate a few rows will, and its noise goes to zero: such
    a run is reported as degenerate; ``prior_scale`` or fewer weights prevent it.

    x, and the y of a Gaussian, should be of unit order, as for any network. The modules are used as they are, neither
    copied nor moved, and their training mode is not changed. With dropout in training mode the bound is random, and a
    fit may stop at any iteration. It draws from a generator of the fit's own; a prediction or a program of your own
    draws from the global one, as in plain torch. Frozen parameters stay frozen: freeze ``log_scale`` for a known noise.
    Restarts of a fit begin at the weights that the networks have.

    Args:
        n_components: K.
        n_features: D, the number of regressors in x that the networks see.
        network: K modules, one an expert, that give [N, C] for x [N, D]; or one module that gives all experts'
            predictors, [N, K, C] or [N, K·C], the first component's first. C is one; P for the Gaussian; one less than
            the categories for the categorical.
        family: ``Gaussian()``, ``Poisson()``, ``Binomial()`` (with one trial: Bernoulli, logits fₖ),
            ``Categorical(n)`` or ``Multinomial(n)`` of ``mixpyro.experts.families``.
        n_outputs: P of the Gaussian, each output with a noise of its own; one for the others.
        exposure: whether x has one more column, its last, that the networks do not see: the exposure of a Poisson count
            or the number of trials of a binomial.
        prior_scale: s of a Normal(0, s²) prior on every trainable parameter of the networks; None for maximum
            likelihood.
        name: prefix of the Pyro site ``<name>.y`` and of the parameters ``<name>.network`` and ``<name>.log_scale``.

    Attributes:
        log_scale: log σ [K, P] of the Gaussian; empty for the others.
        noise_floor: lower limit of its noise [P], a millionth of the spread of y, set by :meth:`centre`.

    Raises:
        ValueError: if there are not K different modules, or ``n_outputs`` is not the family's.

    References:
        Jacobs, Jordan, Nowlan, Hinton (1991), Adaptive mixtures of local experts, eq. 1.3;
        Bishop (1994), Mixture density networks, eq. 22 to 29.

    Example:
        >>> from mixpyro.experts.families import Gaussian
        >>> networks = [nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)) for _ in range(2)]
        >>> experts = NeuralExperts(2, 1, networks, Gaussian())
        >>> experts.predict(torch.zeros(3, 1)).shape
        torch.Size([3, 2, 1])
    """

    noise_floor: Tensor

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"log_scale": ("component", "output")}

    def __init__(
        self,
        n_components: int,
        n_features: int,
        network: nn.Module | Sequence[nn.Module],
        family: Family,
        *,
        n_outputs: int = 1,
        exposure: bool = False,
        prior_scale: float | None = None,
        name: str = "experts",
    ) -> None:
        super().__init__(
            n_components, n_features, n_outputs, family, exposure=exposure, prior_scale=prior_scale, name=name
        )
        if family.scale_names and not isinstance(family, Gaussian):
            raise ValueError(
                f"`family` must be a Gaussian or one without scales for networks; got a {type(family).__name__}. "
                "GLMExperts fit it with linear predictors."
            )
        if n_outputs != 1 and not family.has_scale:
            raise ValueError(f"`n_outputs` must be 1 for a {type(family).__name__}; got {n_outputs}.")
        self.network = _checked_network(network, self.n_components)
        arguments.make_normal(self.network)
        arguments.refuse_lazy(self.network.parameters())
        like = next(self.network.parameters(), torch.empty(0, dtype=torch.float32, device="cpu")).detach()
        n_noises = self.n_outputs if family.has_scale else 0
        self.log_scale = nn.Parameter(like.new_zeros(self.n_components, n_noises))
        self.register_buffer("noise_floor", like.new_zeros(n_noises))

    @property
    def n_predictors(self) -> int:
        """C, the number of predictors of an expert."""
        return self.n_outputs if self.family.has_scale else self.family.n_predictors

    @property
    def scale(self) -> Tensor:
        """Noise σ [K, P] of the Gaussian, ones for a family without."""
        if not self.family.has_scale:
            return self.noise_floor.new_ones(self.n_components, self.n_outputs)
        floor = self.noise_floor.clamp_min(torch.finfo(self.noise_floor.dtype).tiny ** 0.5)
        return torch.maximum(self.log_scale.exp(), floor)

    @property
    def _noise(self) -> Tensor:
        return self.scale

    def predictors(self, x: Inputs) -> Tensor:
        """Return f(x) [N, K, C], in the dtype of x or of the networks, whichever is more precise.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        shape = len(x), self.n_components, self.n_predictors
        regressors = self._regressors(x)
        if isinstance(network_of(self), nn.ModuleList):
            each = evaluate(self, regressors, NetworkOutput("predictors", ((shape[0], shape[2]),)))
            return at_least(torch.stack(each, dim=1), x.dtype)
        wanted = NetworkOutput("predictors", (shape, (shape[0], shape[1] * shape[2])))
        (output,) = evaluate(self, regressors, wanted)
        return at_least(output.reshape(shape), x.dtype)

    def centre(self, x: Inputs, y: Targets, weights: Tensor | None = None) -> None:
        """Set the lower limit of the noise from the spread of y; the networks stay as they are.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P] or [N].
            weights: not read.
        """
        if self.family.has_scale:
            _, y = self.check_data(x, y)
            self.noise_floor = smallest_scale(y, y.new_ones(len(y))).to(self.noise_floor)

    def linear_layers(self, x: Inputs) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the inputs and the coefficients of the networks' last layers.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        for number, (hidden, coefficients) in enumerate(last_layers(self, self._regressors(x))):
            yield number, hidden, coefficients.unflatten(0, (-1, self.n_predictors))

    def parameters_under_prior(self) -> Iterator[nn.Parameter]:
        """Return the networks' trainable parameters."""
        return trainable_parameters(network_of(self))

    def maximise(  # type: ignore[override]
        self,
        x: Inputs,
        y: Outputs,
        responsibilities: Responsibilities,
        *,
        by_gradient: Gradient,
        n_steps: int = 25,
    ) -> None:
        """Set the noise in closed form, then train networks and noise by gradient.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P].
            responsibilities: [N, K].
            by_gradient: called with these experts and the rows: Pyro's SVI.
            n_steps: not used.
        """
        each = [self.noise_sums(*part) for part in over_blocks.parts(x, y, responsibilities)]
        self.set_noise(tuple(over_blocks.total(parts) for parts in zip(*each, strict=True)))
        by_gradient(self, x, y, responsibilities)

    @torch.no_grad()
    def noise_sums(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> tuple[Tensor, ...]:
        """Return Σ r [K, 1] and Σ r (y − f(x))² [K, P], float64; nothing if no noise is estimated.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        if not (self.family.has_scale and self.log_scale.requires_grad):
            return ()
        r = responsibilities.double().unsqueeze(-1)
        squares = r * (y.unsqueeze(1) - self.predictors(x)).double().square()
        return r.sum(0), torch.where(r != 0, squares, 0.0).sum(0)

    @torch.no_grad()
    def set_noise(self, sums: tuple[Tensor, ...]) -> None:
        """Set σ² to Σ r (y − f(x))² / Σ r; a component without objects keeps its own.

        Args:
            sums: as :meth:`noise_sums` returns them.
        """
        if sums:
            counts, squares = sums
            floor = self.noise_floor.double().square().clamp_min(torch.finfo(torch.float64).tiny)
            estimate = 0.5 * torch.maximum(squares / counts, floor).log()
            self.log_scale.copy_(torch.where(counts > 0, estimate, self.log_scale.double()))

    @pyro_method
    def model(self, x: Inputs) -> NeuralParameters:
        """Return the predictors; a prior on the networks' parameters is scored as ``<name>.network_log_prior``.

        Networks with PyroSample weights sample them here.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.
        """
        refuse_shared_parameters(self)
        if self.prior_scale is not None:
            pyro.factor(self.site("network_log_prior"), -self.kl_divergence().to(x.dtype))
        return NeuralParameters(self.predictors(x), self.scale.to(x.dtype))

    @pyro_method
    def guide(self, x: Inputs) -> NeuralParameters:
        """Return the predictors: there is nothing to sample, and random weights need a guide of your own.

        Args:
            x: inputs [N, D], or [N, D + 1] with an exposure.

        Raises:
            RuntimeError: if a network has random weights.
        """
        refuse_random_weights(network_of(self))
        return NeuralParameters(self.predictors(x), self.scale.to(x.dtype))

    def likelihood(self, x: Inputs, parameters: NeuralParameters, assignment: Tensor) -> TorchDistributionMixin:
        """Return the family's distribution at the predictors of z. x must be that of the model.

        Args:
            x: inputs [N, D].
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        rows = torch.arange(len(x), device=x.device)
        eta = Vindex(parameters.predictors)[..., rows, assignment, :]
        scale = Vindex(parameters.scale)[..., assignment, :]
        return self.family.distribution(eta, self._exposures(x).squeeze(-1), scale)


def _checked_network(network: object, n_components: int) -> nn.Module:
    """Return one module as it is, or K different ones in a list that is a PyroModule."""
    if isinstance(network, nn.Module) and not isinstance(network, nn.ModuleList):
        return network
    if not isinstance(network, Sequence | nn.ModuleList) or not all(isinstance(one, nn.Module) for one in network):
        raise TypeError(f"`network` must be a torch.nn.Module or {n_components} of them; got {type(network).__name__}.")
    n_different = len(set(map(id, network)))
    if len(network) != n_components or n_different != n_components:
        raise ValueError(
            f"`network` must be {n_components} different modules, one a component; got {len(network)}, "
            f"{n_different} of them different."
        )
    return PyroModule[nn.ModuleList](list(network))  # type: ignore[arg-type]
