"""Log densities and bounds that are no numbers are refused, with the objects that they are of."""

import pytest
import torch

from mixpyro import arguments

SOME = torch.tensor([-1.0, -torch.inf, -2.0, torch.nan])


def test_objects_without_a_density_are_counted() -> None:
    with pytest.raises(ValueError, match=r"got nan: 2 of 4 objects have no density in any component, number 1 among"):
        arguments.finite_bound(SOME.sum(), SOME)
    with pytest.raises(ValueError, match=r"got NaN in 1 of 4 objects, number 3 among them"):
        arguments.are_numbers(SOME.expand(2, 4), axis=-1)


def test_a_bound_that_no_object_makes_infinite_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match=r"got -inf, although every object has a density"):
        arguments.finite_bound(torch.tensor(-torch.inf), torch.zeros(4))


def test_empty_ranges_are_short() -> None:
    assert not len(arguments.in_memory("groups", range(10**30, 0)))
    with pytest.raises(ValueError, match="`groups` must have at most"):
        arguments.in_memory("groups", range(10**30, 0, -1))
