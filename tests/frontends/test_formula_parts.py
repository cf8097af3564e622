"""Formulas of experts and gate, from one text or several."""

from typing import Any

import pytest

from mixpyro.frontends.formula_parts import FormulaParts, formula_parts


@pytest.mark.parametrize(
    ("formula", "gate", "expected"),
    [
        ("y ~ x", None, FormulaParts("y ~ x", None)),
        ("y ~ x", "~ w", FormulaParts("y ~ x", "w")),
        ("y ~ x", "weights ~ w + v", FormulaParts("y ~ x", "w + v")),
        ("y ~ x", "w", FormulaParts("y ~ x", "w")),
        (["y ~ x", "weights ~ w"], None, FormulaParts("y ~ x", "w")),
        (["y ~ mixture(mu)", "mu ~ x", "weights ~ w"], None, FormulaParts("y ~ x", "w", shares_scale=True)),
        (["y ~ mixture(mu, sigma)", "mu ~ x", "sigma ~ 1"], None, FormulaParts("y ~ x", None)),
        (["y ~ mixture(p)", "p ~ x"], "~ w", FormulaParts("y ~ x", "w", shares_scale=True)),
    ],
)
def test_says_what_is_of_the_experts_and_of_the_gate(formula: Any, gate: str | None, expected: FormulaParts) -> None:
    assert formula_parts(formula, gate) == expected


def test_takes_an_object_with_main_and_additional_formulas() -> None:
    class Formula:
        main, additionals = "y ~ mixture(mu)", ("mu ~ x", "weights ~ w")

    assert formula_parts(Formula()) == FormulaParts("y ~ x", "w", shares_scale=True)


@pytest.mark.parametrize(
    ("formula", "gate", "message"),
    [
        ("~ x", None, "must be of the form 'response ~ terms'"),
        ("y ~ x ~ w", None, "must be of the form 'response ~ terms'"),
        ("y ~ x", "v ~ w", "`gate` must be of the form '~ w'"),
        (["y ~ x", "weights ~ w"], "~ w", "`gate` must be None where `formula` has 'weights ~ w'"),
        (["y ~ x", "sigma ~ w"], None, "got one of 'sigma'"),
        (["y ~ mixture(mu)"], None, "must have a formula 'mu ~ terms'"),
        (["y ~ mixture(sigma)", "mu ~ x"], None, "must let 'mu' vary between components"),
        (["y ~ mixture(mu)", "mu ~ x", "sigma ~ x"], None, "must have 'sigma ~ 1'"),
        (["y ~ mixture(mu)", "mu[1] ~ x", "mu[2] ~ w"], None, "the same terms in every component"),
        (["y ~ mixture(mu, zeta)", "mu ~ x"], None, "got 'zeta'"),
        (["y ~ mixture(mu)", "mu ~ x", "mu ~ w"], None, "one formula of 'mu'"),
    ],
)
def test_refuses_what_it_does_not_understand(formula: Any, gate: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
        formula_parts(formula, gate)


@pytest.mark.parametrize(("formula", "gate"), [(3, None), ([], None), (["y ~ x", 3], None), ("y ~ x", 3)])
def test_takes_text_alone(formula: Any, gate: Any) -> None:
    with pytest.raises(TypeError, match="must be a text"):
        formula_parts(formula, gate)
