"""Which number of components is chosen, and what is said of it."""

import dataclasses
import math
from collections.abc import Sequence
from functools import cache

import pytest
import torch

from mixpyro import Criteria, DirichletGate, FitResult, GaussianExperts, MixtureOfExperts, fit
from mixpyro.frontends.choice import chosen


@cache
def fits() -> dict[int, FitResult]:
    """Fits with one to three components, of which criteria are made up."""
    y = torch.linspace(0, 1, 12).double().unsqueeze(1)
    made: dict[int, FitResult] = {}
    for k in (1, 2, 3):
        mixture = MixtureOfExperts(DirichletGate(k), GaussianExperts(k, 1))
        made[k] = fit(mixture, y[:, :0], y, n_restarts=1, max_iterations=200, progress=False)
    return made


def criteria(
    bic: Sequence[float], icl: Sequence[float], evidence: Sequence[float] = (math.nan,) * 3
) -> dict[int, Criteria]:
    """Of one to three components."""
    rows = zip(bic, icl, evidence, strict=True)
    return {k + 1: Criteria(0.0, -k, k, 9.0 - k, b, i, 0.0, e) for k, (b, i, e) in enumerate(rows)}


def test_the_evidence_decides_where_there_is_one() -> None:
    choice = chosen(fits(), criteria([3.0, 2.0, 2.5], [1.0, 2.0, 3.0], [-5.0, -4.0, -3.0]), "auto")
    assert choice.k == 3
    assert "the largest bound on the log evidence" in choice.why
    assert "bic would choose K = 2" in choice.why
    assert "icl would choose K = 1" in choice.why
    assert "try more" in choice.why
    assert choice.table["chosen"].tolist() == [False, False, True]


def test_bic_decides_where_parameters_are_estimated() -> None:
    choice = chosen(fits(), criteria([3.0, 2.0, 2.5], [3.0, 2.0, 3.0]), "auto")
    assert choice.k == 2
    assert "the smallest bic" in choice.why
    assert "icl" not in choice.why
    assert "aic would choose K = 3" in choice.why


@pytest.mark.parametrize(("rule", "k"), [("bic", 2), ("icl", 1), ("aic", 3), ("evidence", 3)])
def test_the_caller_may_decide_by_what(rule: str, k: int) -> None:
    rows = criteria([3.0, 2.0, 2.5], [1.0, 2.0, 3.0], [-5.0, -4.0, -3.0])
    assert chosen(fits(), rows, rule).k == k


def test_a_fit_without_a_limit_is_not_chosen() -> None:
    worthless = dataclasses.replace(fits()[2].runs[0], degeneracies=("a component has no noise",))
    made = {**fits(), 2: dataclasses.replace(fits()[2], runs=(worthless,), best=0)}
    choice = chosen(made, criteria([3.0, 1.0, 2.5], [3.0, 2.0, 2.5]), "auto")
    assert choice.k == 3
    assert "K = 2 left out: the likelihood has no limit there" in choice.why


def test_equal_criteria_choose_fewer_components() -> None:
    assert chosen(fits(), criteria([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]), "bic").k == 1


def test_one_fit_needs_no_criterion() -> None:
    choice = chosen({2: fits()[2]}, {2: criteria([3.0] * 3, [3.0] * 3)[2]}, "auto")
    assert choice.why == "K = 2, the one number of components that was fitted."
