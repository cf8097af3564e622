"""Families by their names."""

from typing import Any

import pytest

from mixpyro.experts.families import Categorical, CensoredGaussian, Family, Gaussian, Multinomial, Poisson, StudentT
from mixpyro.frontends.families_by_name import NAMES, family_name, family_of


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_family(name: str) -> None:
    family = family_of(name, 3)
    assert family is None if name == "gaussian" else isinstance(family, Family)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("Poisson", Poisson),
        ("student-t", StudentT),
        ("tobit", CensoredGaussian),
        (Poisson, Poisson),
        (Gaussian(), Gaussian),
        (Categorical, Categorical),
    ],
)
def test_takes_other_spellings_classes_and_families(family: Any, kind: type[Family]) -> None:
    assert isinstance(family_of(family, 3), kind)


def test_categories_are_those_of_the_response() -> None:
    found = family_of("multinomial", 4)
    assert isinstance(found, Multinomial)
    assert found.n_categories == 4
    with pytest.raises(ValueError, match="must have 4 categories, as the response; got 3"):
        family_of(Multinomial(3), 4)


def test_refuses_others_with_a_list_of_all() -> None:
    with pytest.raises(ValueError, match=r"must be one of 'gaussian', 'poisson', .*'multinomial'; got 'gamma'"):
        family_name("gamma")
    with pytest.raises(TypeError, match=r"or a Family of mixpyro.experts.families; got int"):
        family_name(3)
