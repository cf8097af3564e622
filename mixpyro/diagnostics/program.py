"""Conversion of a user's own Pyro program, with a gate in it, to ArviZ."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import SVI
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from mixpyro import arguments as checks
from mixpyro.arguments import outside_contexts, with_default_errors
from mixpyro.diagnostics.arviz_versions import ArvizData, container
from mixpyro.diagnostics.conversion import GROUPS
from mixpyro.diagnostics.program_draws import draws_of_guide, draws_of_samples
from mixpyro.diagnostics.program_evaluation import groups_of_program
from mixpyro.diagnostics.program_groups import Names, checked_axes
from mixpyro.diagnostics.program_likelihood import Likelihood
from mixpyro.diagnostics.program_runs import Program
from mixpyro.numerics.random_numbers import own_random_numbers
from mixpyro.programs.conjugate_svi import ConjugateSVI
from mixpyro.pyro_internals.traces import Site

# Axes of tensors that PyTorch's operations take.
MOST_PLATES = 32


@with_default_errors
@outside_contexts
@checks.checked(
    samples=checks.tensors, max_plate_nesting=checks.integer_from(1, MOST_PLATES), n_draws=checks.size, seed=checks.seed
)
def program_to_arviz(
    model: Callable[..., Any] | SVI,
    *arguments: Any,  # noqa: ANN401 (whatever the model takes)
    guide: Callable[..., Any] | None = None,
    samples: Mapping[str, Any] | None = None,
    max_plate_nesting: int = 1,
    axes: Mapping[str, tuple[str, ...]] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    **keywords: Any,  # noqa: ANN401
) -> ArvizData:
    """Draw from the posterior of a Pyro program and convert the draws for ArviZ.

    The groups are those of :func:`mixpyro.to_arviz`. Log likelihoods are in ``log_likelihood`` for draws by MCMC, and
    in ``log_likelihood_of_guide`` for those of a guide, which ArviZ's own functions would take for draws of the exact
    posterior. Discrete sites such as ``gate.assignment`` are summed out of them and of ``lp``, exactly.
    ``constant_data`` has the tensors among the arguments that are not observed, the parameters of the model, and sites
    that the guide has one value for, which have no posterior. Where the model has parameters there is no
    ``prior_predictive``.

    Observed sites that depend on the same discrete variable have one log likelihood, that of all of them together,
    named ``y1+y2``: what an object leaves out when it is left out is all of it, and p(y1, y2 | θ) is no product where
    z is summed out. Sites that share no variable have one each. Pass its name as ``site`` of
    :func:`mixpyro.diagnostics.loo`, or as ``var_name`` of ``az.loo``. Where an object has several values, in an inner
    plate, its log likelihood is that of all of them. A component that a gate knows, by ``mask``, is data of its object,
    too: its weight is in the object's log likelihood. ``posterior_predictive`` and ``observed_data`` are by site in any
    case.

    A row that ``poutine.mask`` hides says nothing. It is left out of the log likelihoods, ``posterior_predictive`` and
    ``observed_data``, whose coordinate ``object`` has the numbers of the rows that are left.

    The model is run for many draws at once, in a plate to the left of its own. Where that fails, or gives other numbers
    than a run of one draw, it is run for each draw, with a warning. Arguments must be all data, not a minibatch.
    Continuous latent variables of single objects, as :class:`mixpyro.ObjectDirichletGate` has them, are not summed out.
    Leave-one-out is unreliable with such draws, and its k-hat shows it.

    Args:
        model: a :class:`mixpyro.ConjugateSVI`, whose model and ``full_guide`` are taken; or a Pyro model with an
            observed site in a plate.
        *arguments: arguments of model and guide.
        guide: a Pyro guide; its continuous sites are drawn. Auxiliary sites, as automatic guides have, count in
            ``log_q`` only. Sites with one value, as of AutoDelta, are estimated parameters, with a warning.
        samples: draws by MCMC instead of a guide, ``mcmc.get_samples(group_by_chain=True)``, [chains, draws, …] each.
        max_plate_nesting: depth of the model's nested plates at least, at least 1; deeper ones are found.
        axes: names of the axes of a site's value, by the site's name, without those of plates; and a plate's, by the
            plate's name. A gate's weights have ``component``, and so has a plate of that name or ``components``.
            :func:`mixpyro.diagnostics.relabel` needs that name wherever an axis is of the components.
        n_draws: number of draws from the guide and the prior, at least 1.
        seed: of the draws, at least 0. The global random state is neither used nor changed.
        **keywords: keyword arguments of model and guide.

    Returns:
        An InferenceData in ArviZ 0.23, a DataTree in 1.x. Without a continuous latent variable it has neither
        ``posterior`` nor ``prior``.

    Raises:
        ValueError: if there is no observed site in a plate, a discrete site is not in the plate of its data, a plate is
            subsampled, the guide does not sample a continuous site of the model, or ``samples`` or ``axes`` do not fit.
        TypeError: if the names of ``axes`` are not tuples.

    Warns:
        RuntimeWarning: if the model or the guide is run for each draw alone, or the guide has one value for a site.

    Example:
        >>> import pyro
        >>> from pyro.distributions import Normal
        >>> def model(y):
        ...     mean = pyro.sample("mean", Normal(0.0, 1.0))
        ...     with pyro.plate("objects", len(y)):
        ...         pyro.sample("y", Normal(mean, 1.0), obs=y)
        >>> data = program_to_arviz(model, torch.zeros(3), guide=lambda y: pyro.sample("mean", Normal(0.0, 0.5)))
        >>> data["log_likelihood_of_guide"]["y"].dims
        ('chain', 'draw', 'object')
    """
    function, guide = _model_and_guide(model, guide, samples)
    depth = max_plate_nesting
    with torch.no_grad(), own_random_numbers(seed):
        with own_random_numbers(seed):  # Draws of the guide are the same, whatever runs the model needs.
            program = checked_program(function, arguments, keywords, depth)
        if samples is not None:
            drawn = draws_of_samples(samples, program)
        else:
            assert guide is not None
            # As deep as the model: a guide may run plates of the model in which it samples nothing.
            depth = program.max_plate_nesting
            drawn = draws_of_guide(Program("guide", guide, arguments, keywords, depth), program, n_draws)
        given_axes = checked_axes(axes or {}, {name: program.layouts[name] for name in drawn.values})
        names = Names(given_axes, [name for name in drawn.values if name.endswith(".weights")])
        found = groups_of_program(Likelihood(program, drawn.values), drawn, names, n_draws)
    attributes = {
        "inference_library": "mixpyro",
        **found.attributes,
        "axes_not_named": ",".join(sorted(names.not_given)),
    }
    return container({name: found.groups[name] for name in GROUPS if found.groups.get(name)}, found.labels, attributes)


def checked_program(
    model: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any], max_plate_nesting: int
) -> Program:
    """Return a model with its data, if these are all data.

    Args:
        model: the Pyro model.
        arguments: of the model.
        keywords: keyword arguments of the model.
        max_plate_nesting: depth of nested plates at least.

    Raises:
        ValueError: if a plate has a subsample.
    """
    program = Program("model", model, arguments, keywords, max_plate_nesting)
    sites: dict[str, Site] = dict(program.first.nodes)
    for name, site in sites.items():
        if site["type"] == "sample" and site_is_subsample(site) and len(site["value"]) < site["fn"].size:
            raise ValueError(
                f"`model` must run on all data; got {len(site['value'])} of the {site['fn'].size} objects of the plate "
                f"{name!r}. Pass all rows, and make the plate without a subsample."
            )
    return program


def model_of(model: Callable[..., Any] | SVI) -> Callable[..., Any]:
    """Return the model of an SVI, or the model itself.

    Args:
        model: either.
    """
    return model.model if isinstance(model, SVI) else model


def _model_and_guide(
    model: Callable[..., Any] | SVI, guide: Callable[..., Any] | None, samples: Mapping[str, Tensor] | None
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """Return a model, and its guide unless there are samples."""
    if isinstance(model, SVI) and guide is None and samples is None:
        return model.model, model.full_guide if isinstance(model, ConjugateSVI) else model.guide
    if (guide is None) == (samples is None):
        raise ValueError(f"`guide` or `samples` must be given; got {'neither' if guide is None else 'both'}.")
    return model_of(model), guide
