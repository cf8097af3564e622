"""What gates and experts have in common: what a fit changes in them, and the sites of a Pyro program."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyro
import torch
from jaxtyping import Float
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.global_state import unchanged_if_refused
from mixpyro.arguments.module_contents import unchanged_if_it_raises
from mixpyro.fitted_part import FittedPart
from mixpyro.part_arguments import (
    IN_PROGRAM,
    OF_ROWS,
    with_checked_components,
    with_checked_names,
    with_checked_outputs,
    with_checked_rows,
    with_checked_statistics,
)
from mixpyro.pyro_internals.names import site_name
from mixpyro.pyro_internals.parameter_store import (
    minus_log_normal_prior,
    numbered_entries,
    refuse_shared_parameters,
)
from mixpyro.shapes import Scalar
from mixpyro.tables.representation import arguments_of, html_table, line_of

# Nats by which a batch of a stream may change a predictor that is a logarithm or a logit: sums over one batch say
# little of the likelihood farther away.
MOST_CHANGE_OF_BATCH = 2.0
# Those and more run outside the caller's contexts: see `mixpyro.arguments.torch_contexts`.
UPDATES = ("update", "update_objects", "sample_weights", "initialise", "maximise")
PUBLIC = (*UPDATES, *OF_ROWS[2:])
# Those that change a part bit by bit.
LONG_UPDATES = ("centre", "maximise", "initialise")
# Those whose results have a graph only where the rows ask for one.
PREDICTIONS = OF_ROWS[:2]


class Part(FittedPart):
    """A gate or a bank of experts: K components that a fit updates, and a name for their Pyro sites.

    Args:
        n_components: K, at least one.
        name: prefix of the Pyro sites. A part that is an attribute of a PyroModule takes the attribute's name instead.
    """

    # Methods that a fit does not call, with the formula that it reads instead; see `refuse_unread_overrides`.
    unread: ClassVar[Mapping[str, str]] = {}
    # Axes of a draw of each latent site, by its name without the prefix: component, output, feature, regressor, object.
    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**options)
        # What a user's constructor makes stays on the default device.
        own = ("__init__",) if cls.__module__.startswith("mixpyro.") else ()
        arguments.guarded(cls, predictions=PREDICTIONS, others=(*PUBLIC, *own))
        arguments.guard(cls, ("partial_bound", "centre"), with_checked_outputs)
        arguments.guard(cls, OF_ROWS, with_checked_rows)
        arguments.guard(cls, LONG_UPDATES, unchanged_if_it_raises)
        arguments.guard(cls, IN_PROGRAM, unchanged_if_refused)
        arguments.guard(cls, ("log_weights", "hold"), arguments.declared)
        arguments.guard(cls, ("parameter_names", "coefficient_names"), with_checked_names)
        arguments.guard(cls, ("with_components",), with_checked_components)
        arguments.guard(cls, ("update",), with_checked_statistics)
        if {"statistics", "update"} & set(vars(cls)) and not hasattr(cls, "updated"):
            raise TypeError(
                f"`{cls.__name__}` must be a ConjugateGate or ConjugateExperts to have statistics; got none."
            )
        refuse_unread_overrides(cls)

    def __init__(self, n_components: int, *, name: str) -> None:
        super().__init__(name)
        self.n_components = arguments.size("n_components", n_components)

    @arguments.outside_contexts
    def _apply(self, *args: Any, **kwargs: Any) -> "Part":  # noqa: ANN401 (they are torch's)
        """Convert or move the tensors, as ``to`` does, to some that can be trained, in inference mode too."""
        arguments.make_normal(self)
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def site(self, name: str) -> str:
        """Return the full name of a site of this part.

        Args:
            name: without the prefix, such as ``weights`` for ``gate.weights``.
        """
        return site_name(self, name)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters, as information criteria count them."""
        raise NotImplementedError

    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of the part's own latent variables in nats, float64.

        Estimated parameters enter with minus the log density of their prior, if they have one.
        """
        raise NotImplementedError

    def partial_bound(self, *rows: Tensor) -> Scalar:
        """Return the part's share of the bound in nats, which the gradient M-step maximises.

        Args:
            *rows: what the part reads of N objects, then the responsibilities [N, K].
        """
        raise NotImplementedError

    @pyro_method
    def objective(self, *rows: Tensor) -> None:
        """Score the part's share of the bound as a factor ``<name>.objective``: the Pyro model of the M-step.

        Args:
            *rows: as for :meth:`partial_bound`.
        """
        refuse_shared_parameters(self)
        pyro.factor(self.site("objective"), self.partial_bound(*rows))

    def prior_in_words(self) -> str:
        """Return the prior of the parameters in a few words, for a summary; empty by default."""
        return ""

    def extra_repr(self) -> str:
        """Return the arguments that are not the defaults, for the text of the module."""
        return line_of(self)

    def _repr_html_(self) -> str:
        """Return the arguments and the prior for a notebook."""
        prior = self.prior_in_words()
        return html_table(type(self).__name__, arguments_of(self) | ({"prior": prior} if prior else {}))

    @property
    def effects(self) -> set[str]:
        """Names of the parameters whose entries are effects, which may be tested against zero."""
        return set()

    @property
    def is_estimated(self) -> bool:
        """Whether parameters are estimated, so that the bound is none on the log evidence."""
        return any(parameter.requires_grad and parameter.numel() for parameter in self.parameters())

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """A label of every component; components of one label have the same prior. By default no two have."""
        return [(float(k),) for k in range(self.n_components)]

    @with_checked_names
    def parameter_names(self, feature_names: Sequence[str]) -> dict[str, list[str]]:
        """Return a name for every entry of every parameter, in the parameter's order; numbers by default.

        Args:
            feature_names: names of the columns of x.
        """
        return numbered_entries(self)


@functools.cache
def overrides(cls: type, names: frozenset[str]) -> bool:
    """Return whether a user's class, or any between it and one of this library, has members of some names.

    Args:
        cls: of a part.
        names: of members that a faster formula stands for.
    """
    return any(not names.isdisjoint(vars(one)) for one in cls.__mro__ if not one.__module__.startswith("mixpyro."))


def refuse_unread_overrides(cls: Any) -> None:  # noqa: ANN401
    """Raise if a user's class overrides a method that a fit does not call: it would fit another model.

    Args:
        cls: with ``unread``, which maps such methods to the formulas that a fit reads.

    Raises:
        TypeError: if it overrides the method and not the formula.
    """
    own = set(vars(cls))
    for method, formula in cls.unread.items():
        if method in own and formula not in own and not cls.__module__.startswith("mixpyro."):
            raise TypeError(f"`{cls.__name__}` must override `{formula}`, which a fit reads; got `{method}` alone.")


class EstimatedPart(Part):
    """A part whose parameters are estimated, by maximum likelihood or with the density of a Normal prior."""

    # Scale of a Normal(0, s²) prior on the parameters; None for maximum likelihood.
    prior_scale: float | None = None

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the parameters that ``prior_scale`` speaks of: all trainable ones by default."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def kl_divergence(self) -> Scalar:
        """Return minus the log density of the parameters under their prior in nats, zero without one; float64."""
        return minus_log_normal_prior(self.parameters_under_prior(), self.prior_scale)

    def prior_in_words(self) -> str:
        """Return the prior of the parameters in a few words."""
        return "none" if self.prior_scale is None else f"Normal(0, {self.prior_scale:.6g}²) on each coefficient"

    def _minus_log_priors(self, values: Sequence[Tensor]) -> Float[Tensor, " R"]:
        """Return minus the log density of R runs' parameters under their prior in nats, zero without one; float64."""
        if self.prior_scale is None:
            return values[0].new_zeros(len(values[0]), dtype=torch.float64)
        scale = self.prior_scale
        theta = torch.cat([value.flatten(1) for value in values], dim=1).double() / scale
        constant = theta.shape[1] * math.log(scale * math.sqrt(2.0 * math.pi))
        return 0.5 * theta.square().sum(1) + constant

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
