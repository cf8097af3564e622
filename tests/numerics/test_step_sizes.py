"""Step sizes of stochastic updates."""

import pytest

from mixpyro.numerics.step_sizes import RobbinsMonro


def test_step_sizes_follow_the_formula() -> None:
    sizes = RobbinsMonro(delay=3.0, decay=0.6)
    assert [sizes(step) for step in (1, 10)] == pytest.approx([4.0**-0.6, 13.0**-0.6])


def test_the_first_step_without_delay_is_a_full_one() -> None:
    assert RobbinsMonro(delay=0.0)(1) == 1.0


@pytest.mark.parametrize("decay", [0.5, 1.01])
def test_a_decay_without_convergence_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"`decay` must be above 0.5 and at most 1; got {decay}"):
        RobbinsMonro(decay=decay)


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`delay` must be finite and at least 0; got -1\.0"):
        RobbinsMonro(delay=-1.0)
