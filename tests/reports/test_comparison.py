"""Several fits side by side."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    PointMassExperts,
    SoftmaxGate,
    as_table,
    compare,
    criteria,
    fit,
)
from mixpyro.experts.families import Gaussian
from mixpyro.numerics.segments import Segments
from mixpyro.reports.criteria import log_labellings
from tests.problems import lines


def conjugate(k: int, x: Tensor, y: Tensor, **options: Any) -> Any:
    mixture = MixtureOfExperts(DirichletGate(k), LinearExperts(k, x.shape[1]))
    return fit(mixture, x, y, progress=False, **{"n_restarts": 4} | options)


def estimated(k: int, x: Tensor, y: Tensor, gate_x: Tensor | None = None) -> Any:
    n_gate = x.shape[1] if gate_x is None else gate_x.shape[1]
    mixture = MixtureOfExperts(SoftmaxGate(k, n_gate), GLMExperts(k, x.shape[1], Gaussian()))
    return fit(mixture, x, y, gate_x=gate_x, n_restarts=k, progress=False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_models_with_posteriors_are_ranked_by_the_evidence(co2: tuple[Tensor, Tensor]) -> None:
    """On 28 countries the evidence is for one line where BIC is for two."""
    x, y = co2
    ranking = compare([conjugate(k, x, y) for k in (1, 2)], x, y)
    assert ranking.by == "log_evidence"
    values = [row.log_evidence for row in ranking.values()]
    assert values == sorted(values, reverse=True)
    for name, row in ranking.items():
        k = int(name[-1])
        assert row.log_evidence == pytest.approx(row.bound + math.lgamma(k + 1))
    table = as_table(ranking).splitlines()
    assert table[-1] == ranking.note
    assert "ranked by log_evidence" in ranking.note


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_estimated_and_mixed_models_are_ranked_by_the_bic() -> None:
    x, y, _ = lines(40, 2)
    results = {"ml 1": estimated(1, x, y), "ml 2": estimated(2, x, y)}
    ranking = compare(results, x, y)
    assert ranking.by == "bic"
    assert list(ranking) == ["ml 2", "ml 1"]
    assert all(math.isnan(row.log_evidence) for row in ranking.values())
    mixed = compare(results | {"vb 2": conjugate(2, x, y)}, x, y)
    assert mixed.by == "bic"
    assert [row.bic for row in mixed.values()] == sorted(row.bic for row in mixed.values())
    assert "ranked by bic, because ml 1, ml 2 have estimated parameters" in mixed.note


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_models_of_other_columns_and_gate_inputs_are_in_one_table() -> None:
    x, y, _ = lines(40, 2, n_features=2)
    gate_x = x.flip(0)[:, :1]
    results = {"both": estimated(1, x, y), "one": estimated(1, x[:, :1], y), "gate": estimated(2, x, y, gate_x)}
    inputs = {"both": x, "one": x[:, :1], "gate": x}
    by_name = compare(results, inputs, y, gate_x={"gate": gate_x})
    assert compare(results, inputs, y, gate_x=gate_x) == by_name
    in_order = compare(list(results.values()), list(inputs.values()), y, gate_x=[None, None, gate_x])
    assert [row.bic for row in in_order.values()] == [row.bic for row in by_name.values()]
    assert by_name["one"] == pytest.approx(criteria(results["one"], x[:, :1], y), nan_ok=True)
    with pytest.raises(ValueError, match=r"`x` must have the names of the results.*got \['both'\]"):
        compare(results, {"both": x}, y)
    with pytest.raises(ValueError, match="`gate_x` must have one entry a fit, 3; got 1"):
        compare(results, inputs, y, gate_x=[gate_x])


@pytest.mark.usefixtures("bad_arguments")
def test_models_of_other_rows_and_wrong_arguments_are_refused() -> None:
    x, y, _ = lines(40, 1)
    first, second = conjugate(1, x, y), conjugate(1, x, y + 0.3 * x)
    for results, message in (
        ({"a": first, "b": second}, "`results` must be fits to these data; got 'b', for which `x` and `y` must be the"),
        ({}, "`results` must have at least one fit; got none"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(results, x, y)
    with pytest.raises(TypeError, match="`results` must be fits by name, or a list of them; got FitResult"):
        compare(first, x, y)
    with pytest.raises(TypeError, match="`results` must be results of fits; got a MixtureOfExperts"):
        compare([first.mixture], x, y)


LABELLINGS: dict[str, tuple[Callable[[], MixtureOfExperts], list[float], float]] = {
    "alike": (lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)), [5.0, 5.0, 5.0], 6.0),
    "one is empty": (lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)), [5.0, 5.0, 0.0], 6.0),
    "two are empty": (lambda: MixtureOfExperts(DirichletGate(3), GaussianExperts(3, 2)), [9.0, 0.1, 0.0], 3.0),
    "other concentrations": (
        lambda: MixtureOfExperts(DirichletGate(3, concentration=[1.0, 1.0, 2.0]), LinearExperts(3, 1)),
        [5.0, 5.0, 5.0],
        2.0,
    ),
    "objects": (lambda: MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1)), [5.0, 5.0], 2.0),
    "other means": (
        lambda: MixtureOfExperts(MarginalObjectDirichletGate(2, mean=[1.0, 2.0]), LinearExperts(2, 1)),
        [5.0, 5.0],
        1.0,
    ),
    "families": (
        lambda: MixtureOfExperts(
            DirichletGate(4), HeterogeneousExperts([LinearExperts(2, 1), GaussianExperts(1, 1), LinearExperts(1, 0)])
        ),
        [5.0] * 4,
        2.0,
    ),
    "point masses": (lambda: MixtureOfExperts(DirichletGate(2), PointMassExperts(2, [0.0, 1.0])), [5.0, 5.0], 1.0),
}


@pytest.mark.parametrize("name", LABELLINGS)
def test_labellings_of_one_prior_are_counted(name: str) -> None:
    make, counts, number = LABELLINGS[name]
    assert log_labellings(make(), counts) == pytest.approx(math.log(number))


def test_the_evidence_of_a_line_is_exact() -> None:
    """With one component the bound is the log evidence, a multivariate Student-t; so is log_evidence."""
    x, y, _ = lines(25, 1)
    result = conjugate(1, x, y, n_restarts=1)
    experts = result.mixture.experts
    design = torch.cat([torch.ones(25, 1).double(), x], 1)
    prior = experts.prior_from_zero
    a, b = float(prior.shape[0]), float(prior.rate[0, 0])
    mean = design @ prior.mean[0, 0]
    covariance = torch.eye(25).double() + design @ torch.linalg.inv(prior.precision[0]) @ design.T
    residual = y[:, 0] - mean
    square = float(residual @ torch.linalg.solve(covariance, residual))
    known = math.lgamma(a + 12.5) - math.lgamma(a) - 12.5 * math.log(2 * math.pi * b)
    known += -0.5 * float(torch.logdet(covariance)) - (a + 12.5) * math.log1p(square / (2 * b))
    assert criteria(result, x, y).log_evidence == pytest.approx(known, rel=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_are_estimated_leave_no_evidence() -> None:
    x, y, _ = lines(40, 2)
    learnt = (
        MarginalObjectDirichletGate(2, learn_mean=True),
        ObjectDirichletGate(2, learn_mean=True),
        SoftmaxGate(2, 1),
    )
    for gate in learnt:
        result = fit(MixtureOfExperts(gate, LinearExperts(2, 1)), x, y, n_restarts=1, max_iterations=5, progress=False)
        assert math.isnan(criteria(result, x, y).log_evidence)
    frozen = SoftmaxGate(2, 1)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    result = fit(MixtureOfExperts(frozen, LinearExperts(2, 1)), x, y, n_restarts=1, progress=False)
    # Known weights are no estimates, and say which component is which.
    assert criteria(result, x, y).log_evidence == result.bound
    assert isinstance(frozen, nn.Module)


class Uncertain(GLMExperts):
    """Experts that have no density of the first row that they are asked for."""

    def log_prob_of_objects(self, x: Tensor, y: Tensor, segments: Segments | None) -> Tensor:
        """As GLMExperts, and NaN for one row."""
        found = super().log_prob_of_objects(x, y, segments).clone()
        found[:, 0] = math.nan
        return found


def test_a_fit_whose_criterion_is_not_finite_comes_last(co2: tuple[Tensor, Tensor]) -> None:
    x, y = co2
    mixture = MixtureOfExperts(SoftmaxGate(1, 1), Uncertain(1, 1, Gaussian()))
    with pytest.warns(RuntimeWarning, match="log densities of 1 of the first 28 rows are not finite"):
        uncertain = fit(mixture, x, y, progress=False)
    assert any("not finite" in caution for caution in uncertain.cautions)
    results = {"uncertain": uncertain, "one": estimated(1, x, y), "constant": estimated(1, 0 * x, y)}
    ranking = compare(results, {"uncertain": x, "one": x, "constant": 0 * x}, y)
    assert list(ranking)[-1] == "uncertain"
    assert ranking["one"].bic < ranking["constant"].bic
    assert "Last and not ranked: uncertain, whose bic is not finite" in ranking.note
