"""Which formula is of the experts and which is of the gate, from one text or several."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mixpyro.arguments import shown

# Names of the parameter that a formula of bambi's mixtures may be of: what the experts regress, and what spreads y.
LOCATIONS = ("mu", "p", "lam", "rate", "location", "eta")
SCALES = ("sigma", "alpha", "nu", "scale")
WEIGHTS = "weights"
MIXTURE = re.compile(r"mixture\s*\(([^()]*)\)")


class FormulaParts(NamedTuple):
    """Formulas of the parts of a mixture of experts, as text."""

    experts: str  # with the response: "y ~ x"
    gate: str | None  # its right side: "w"; None for weights that are the same for all objects
    shares_scale: bool = False  # whether the components have one noise

    @property
    def response(self) -> str:
        """The left side."""
        return self.experts.partition("~")[0].strip()

    @property
    def terms(self) -> str:
        """The right side."""
        return self.experts.partition("~")[2].strip()


def formula_parts(formula: Any, gate: object = None) -> FormulaParts:  # noqa: ANN401 (checked here)
    """Return the formulas of experts and gate.

    Args:
        formula: "y ~ x", or several formulas: ["y ~ x", "weights ~ w"], or in the words of bambi's mixtures
            ["y ~ mixture(mu)", "mu ~ x", "weights ~ w"], of which an object has them as ``main`` and ``additionals``.
        gate: "~ w", "weights ~ w" or None.

    Raises:
        TypeError: if a formula is no text.
        ValueError: if one is missing or not understood.

    Example:
        >>> formula_parts(["y ~ mixture(mu, sigma)", "mu ~ x", "weights ~ w"])
        FormulaParts(experts='y ~ x', gate='w', shares_scale=False)
    """
    texts = _texts(formula)
    main, others = texts[0], _by_parameter(texts[1:])
    if main.count("~") != 1 or not main.partition("~")[0].strip():
        raise ValueError(f"`formula` must be of the form 'response ~ terms'; got {shown(main)}.")
    response, terms = (side.strip() for side in main.split("~"))
    shares_scale = False
    mixture = MIXTURE.fullmatch(terms)
    if mixture is not None:
        terms, shares_scale = _of_mixture(mixture.group(1), others, main)
    own_gate = others.pop(WEIGHTS, None)
    if others:
        raise ValueError(
            f"`formula` must have formulas of the response and of {WEIGHTS!r} alone; got one of "
            f"{shown(next(iter(others)))}."
        )
    if own_gate is not None and gate is not None:
        raise ValueError(f"`gate` must be None where `formula` has '{WEIGHTS} ~ {own_gate}'; got {shown(gate)}.")
    return FormulaParts(f"{response} ~ {terms}", own_gate if gate is None else _gate_terms(gate), shares_scale)


def _texts(formula: Any) -> list[str]:  # noqa: ANN401 (checked here)
    """Return the formulas, at least one."""
    if hasattr(formula, "main") and hasattr(formula, "additionals"):
        formula = [formula.main, *formula.additionals]
    texts = [formula] if isinstance(formula, str) else formula
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"`formula` must be a text such as 'y ~ x', or a list of them; got {type(formula).__name__}.")
    return [text.strip() for text in texts]


def _by_parameter(texts: Sequence[str]) -> dict[str, str]:
    """Return the right side of each formula by the parameter that it is of."""
    found: dict[str, str] = {}
    for text in texts:
        parameter, tilde, terms = (part.strip() for part in text.partition("~"))
        if not tilde or "~" in terms:
            raise ValueError(f"`formula` must have formulas of the form 'parameter ~ terms'; got {shown(text)}.")
        if "[" in parameter:
            raise ValueError(
                f"`formula` must have the same terms in every component; got {shown(text)}. Build a mixture with "
                "`HeterogeneousExperts` for components of different terms, and `fit` it."
            )
        if parameter in found:
            raise ValueError(f"`formula` must have one formula of {parameter!r}; got two.")
        found[parameter] = terms
    return found


def _of_mixture(inside: str, others: dict[str, str], main: str) -> tuple[str, bool]:
    """Return the terms of the location, and whether the components share what spreads y."""
    varying = [name.strip() for name in inside.split(",") if name.strip()]
    location = next((name for name in LOCATIONS if name in others), None)
    if location is None:
        raise ValueError(f"`formula` must have a formula 'mu ~ terms' beside {shown(main)}; got none.")
    if location not in varying:
        raise ValueError(
            f"`formula` must let {location!r} vary between components, as in 'mixture({location})'; got {shown(main)}. "
            "For coefficients that components share, pass `shared`."
        )
    for name in SCALES:
        terms = others.pop(name, "1").replace(" ", "")
        if terms != "1":
            raise ValueError(f"`formula` must have '{name} ~ 1', which depends on no column; got '{name} ~ {terms}'.")
    unknown = [name for name in varying if name not in (location, *SCALES)]
    if unknown:
        raise ValueError(f"`formula` must have parameters such as mu and sigma in mixture(); got {shown(unknown[0])}.")
    return others.pop(location), len(varying) == 1


def _gate_terms(gate: object) -> str:
    """Return the right side of a formula of the gate."""
    if not isinstance(gate, str):
        raise TypeError(f"`gate` must be a text such as '~ w', or None; got {type(gate).__name__}.")
    left, tilde, terms = (part.strip() for part in gate.partition("~"))
    if not tilde:
        return left
    if left not in ("", WEIGHTS) or "~" in terms or not terms:
        raise ValueError(f"`gate` must be of the form '~ w' or '{WEIGHTS} ~ w'; got {shown(gate)}.")
    return terms
