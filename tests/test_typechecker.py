"""The type checker of the tests: the first calls of every function, in every test again."""

import jaxtyping
import pytest
import torch

from mixpyro.groups import Groups
from mixpyro.numerics.normalised import normalised
from tests import typechecker

WRONG_TYPE = [[0.0]]
WRONG_SHAPE = torch.zeros(2)


@pytest.mark.parametrize("wrong", [WRONG_TYPE, WRONG_SHAPE], ids=["type", "shape"])
def test_every_test_checks_the_first_calls(wrong: object) -> None:
    for _ in range(typechecker.CHECKED_CALLS):
        with pytest.raises(jaxtyping.TypeCheckError, match="log_joint"):
            normalised(wrong)  # type: ignore[arg-type]
    with pytest.raises((AttributeError, IndexError)):  # from inside
        normalised(wrong)  # type: ignore[arg-type]
    typechecker.start_of_test()
    with pytest.raises(jaxtyping.TypeCheckError, match="log_joint"):
        normalised(wrong)  # type: ignore[arg-type]


def test_results_are_checked() -> None:
    @typechecker.check_first_calls
    def wrong() -> int:
        return "one"  # type: ignore[return-value]

    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        wrong()


def test_fields_of_dataclasses_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="index"):
        Groups(ids=("a",), index=torch.zeros(1))


def test_nothing_is_checked_where_the_checker_is_off(without_type_checks: None) -> None:
    assert not Groups(ids=("a",), index=torch.zeros(1)).index.any()
