"""A module that is given where numbers belong keeps its names."""

from typing import Any

import pytest

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    RandomEffectsExperts,
    RelevanceLinearExperts,
)
from tests.fuzz.states import differences, picture

CONSTRUCTORS: dict[type, tuple[str, ...]] = {
    LinearExperts: ("coefficient_mean", "coefficient_precision", "noise_shape", "noise_rate"),
    RelevanceLinearExperts: ("coefficient_mean", "noise_rate", "column_precision_shape", "column_precision_rate"),
    RandomEffectsExperts: ("coefficient_mean", "noise_rate", "effect_degrees", "effect_scale"),
    GaussianExperts: ("mean", "mean_precision", "degrees_of_freedom", "scale"),
}


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, names in CONSTRUCTORS.items() for name in names])
def test_a_module_in_the_place_of_numbers_is_left_as_it_was(cls: Any, name: str) -> None:
    given = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    before = picture(given)
    with pytest.raises((TypeError, AttributeError)):
        cls(2, 1, **{name: given})
    assert not differences(before, picture(given))
