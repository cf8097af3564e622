"""How draws of estimated parameters, which a mixture's model does not sample, enter the model."""

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.func import functional_call

from mixpyro.diagnostics.estimates import sites_of_estimates
from mixpyro.experts.glm import GLMExperts
from mixpyro.gates.softmax import SoftmaxGate
from mixpyro.mixture import MixtureOfExperts

Result = TypeVar("Result")


class Model(NamedTuple):
    """A mixture whose model can be evaluated at draws of all of its parameters."""

    mixture: MixtureOfExperts
    flat: frozenset[str]  # sites that have no prior, so that their density does not count
    swapped: Mapping[str, str]  # names of parameters that are no sites and are replaced draw by draw, by their site


def model_of(mixture: MixtureOfExperts, drawn: Collection[str]) -> Model:
    """Return a mixture that samples as many of its estimated parameters as it can.

    Linear predictors without a prior get one, which does not count: all draws are then evaluated at once.

    Args:
        mixture: that the draws are of; it is not changed.
        drawn: names of the sites that have draws.
    """
    names = {site: name for name, site in sites_of_estimates(mixture).items() if site in drawn}
    if not names:
        return Model(mixture, frozenset(), {})
    copied = copy.deepcopy(mixture)
    sampled, flat = set[str](), set[str]()
    for part in copied.modules():
        if isinstance(part, SoftmaxGate | GLMExperts):
            own = {part.site("coefficients")}
            if isinstance(part, GLMExperts) and part.shared_coefficients_estimate is not None:
                own.add(part.site("shared_coefficients"))
            if part.prior_scale is not None:
                sampled |= own
            elif own <= set(names):  # Where one of two is frozen, parameters are replaced draw by draw.
                sampled, flat = sampled | own, flat | own
                part.prior_scale = 1.0
    return Model(copied, frozenset(flat), {site: name for site, name in names.items() if site not in sampled})


def with_parameters(module: nn.Module, parameters: Mapping[str, Tensor], function: Callable[[], Result]) -> Result:
    """Return what a function returns while a module has other parameters.

    Args:
        module: that the function reads.
        parameters: by their names.
        function: without arguments.
    """
    own = dict(module.named_parameters())
    values = {f"module.{name}": value.to(own[name]) for name, value in parameters.items()}
    found: Result = functional_call(_Called(module, function), values, ())
    return found


class _Called(nn.Module):
    """A function of a module, as a module whose parameters ``functional_call`` replaces."""

    def __init__(self, module: nn.Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self) -> Any:  # noqa: ANN401
        """Return what the function returns."""
        return self.function()
