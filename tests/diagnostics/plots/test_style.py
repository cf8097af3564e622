"""Colours and lines of components."""

from mixpyro.diagnostics.plots.style import colour, dashes


def test_eight_components_have_different_colours_and_lines() -> None:
    assert len({colour(k) for k in range(8)}) == len({dashes(k) for k in range(8)}) == 8


def test_the_ninth_component_differs_from_the_first_by_its_line() -> None:
    assert colour(8) == colour(0)
    assert dashes(8) != dashes(0)
