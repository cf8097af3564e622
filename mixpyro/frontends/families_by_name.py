"""Families of densities by their names."""

import inspect
from collections.abc import Callable
from typing import Any

from mixpyro.arguments import shown
from mixpyro.experts.families import (
    Binomial,
    Categorical,
    CensoredGaussian,
    Family,
    Gaussian,
    Multinomial,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroTruncatedPoisson,
)

# The conjugate experts; the others have estimated parameters.
GAUSSIAN = "gaussian"
# Families of one response that need no number of categories.
SIMPLE: dict[str, Callable[[], Family]] = {
    "poisson": Poisson,
    "binomial": Binomial,
    "negative_binomial": NegativeBinomial,
    "student_t": StudentT,
    "zero_truncated_poisson": ZeroTruncatedPoisson,
    "censored_gaussian": CensoredGaussian,
}
# Families whose number of categories is that of the response.
OF_CATEGORIES: dict[str, Callable[[int], Family]] = {"categorical": Categorical, "multinomial": Multinomial}
ALIASES = {
    "normal": GAUSSIAN,
    "bernoulli": "binomial",
    "negativebinomial": "negative_binomial",
    "t": "student_t",
    "studentt": "student_t",
    "censored": "censored_gaussian",
    "tobit": "censored_gaussian",
    "truncated_poisson": "zero_truncated_poisson",
}
NAMES = (GAUSSIAN, *SIMPLE, *OF_CATEGORIES)
# What a family multiplies the rate by, or has as its number of trials.
OF_EXPOSURE = (Poisson, NegativeBinomial, ZeroTruncatedPoisson)
OF_TRIALS = (Binomial, Multinomial)


def family_name(family: object) -> str:
    """Return the name of a family; ``"gaussian"`` stands for the conjugate experts.

    Args:
        family: a name, a Family of ``mixpyro.experts.families``, or a class of these.

    Raises:
        TypeError: if it is something else.
        ValueError: if there is none of that name.
    """
    if isinstance(family, Family) or (inspect.isclass(family) and issubclass(family, Family)):
        return type(family).__name__ if isinstance(family, Family) else family.__name__
    if not isinstance(family, str):
        raise TypeError(
            f"`family` must be one of {', '.join(map(repr, NAMES))}, or a Family of mixpyro.experts.families; got "
            f"{type(family).__name__}."
        )
    name = family.strip().lower().replace("-", "_").replace(" ", "_")
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise ValueError(f"`family` must be one of {', '.join(map(repr, NAMES))}; got {shown(family)}.")
    return name


def family_of(family: object, n_categories: int) -> Family | None:
    """Return a family for a response; None for the conjugate experts of Gaussian noise.

    Args:
        family: a name, a Family, or a class of these: ``families.Gaussian`` is that of GLMExperts, by maximum
            likelihood.
        n_categories: of the response, where it has any.

    Raises:
        TypeError: if it is something else.
        ValueError: if there is none of that name, or the number of categories is another one.
    """
    name = family_name(family)
    if isinstance(family, Family):
        own = getattr(family, "n_categories", n_categories)
        if own != n_categories:
            raise ValueError(f"`family` must have {n_categories} categories, as the response; got {own}.")
        return family
    if inspect.isclass(family):
        kind: Any = family
        return kind(n_categories) if kind in (Categorical, Multinomial) else kind()
    if name == GAUSSIAN:
        return None
    return OF_CATEGORIES[name](n_categories) if name in OF_CATEGORIES else SIMPLE[name]()


__all__ = ["GAUSSIAN", "NAMES", "OF_EXPOSURE", "OF_TRIALS", "Gaussian", "family_name", "family_of"]
