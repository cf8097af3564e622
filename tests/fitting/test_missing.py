"""Outputs that were not observed: rows without any change nothing, whatever the gate, the experts and the path."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    TreeGate,
    coefficients,
    criteria,
    fit,
    fit_minibatches,
    linear_response,
    load,
    save,
    to_arviz,
)
from mixpyro.diagnostics import exact_loo
from mixpyro.experts.families import Poisson
from tests.problems import lines

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]

N = 40
NAN = float("nan")
GATES: dict[str, Callable[[], Any]] = {
    "dirichlet": lambda: DirichletGate(2),
    "sticks": lambda: StickBreakingGate(2),
    "marginal": lambda: MarginalObjectDirichletGate(2, mean=[1.0, 2.0]),
    "softmax": lambda: SoftmaxGate(2, 1, prior_scale=1.0),
    "bayesian": lambda: BayesianSoftmaxGate(2, 1),
    "tree": lambda: TreeGate(2, 1),
}
EXPERTS: dict[str, Callable[[], Any]] = {
    "linear": lambda: LinearExperts(2, 1),
    "gaussian": lambda: GaussianExperts(2, 1),
    "poisson": lambda: GLMExperts(2, 1, Poisson(), prior_scale=2.0),
}


def problem(*, counts: bool = False, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Rows on two lines, NaN where y was not observed, and where it was."""
    x, y, _ = lines(N, 2, seed=1)
    y = y.exp().clamp_max(20.0).round() if counts else y
    seen = torch.arange(N) % 4 != 2
    return x.to(dtype), torch.where(seen[:, None], y, NAN).to(dtype), seen


def both(mixture: Callable[[], MixtureOfExperts], y: Tensor, x: Tensor, **given: Any) -> tuple[FitResult, FitResult]:
    """Fit all rows, and those of which y was observed."""
    seen = ~y.isnan().any(-1)
    of_seen: dict[str, Any] = {
        name: value[seen] if isinstance(value, Tensor) else value for name, value in given.items()
    }
    options: dict[str, Any] = {"n_restarts": 2, "n_candidates": 1, "progress": False}
    return (
        fit(mixture(), x, y, missing="ignore", **given, **options),
        fit(mixture(), x[seen], y[seen], **of_seen, **options),
    )


@pytest.mark.parametrize(
    ("gate", "experts"),
    [(gate, "linear") for gate in GATES] + [("dirichlet", experts) for experts in EXPERTS if experts != "linear"],
)
def test_rows_without_outputs_change_nothing(gate: str, experts: str) -> None:
    x, y, seen = problem(counts=experts == "poisson")
    whole, some = both(lambda: MixtureOfExperts(GATES[gate](), EXPERTS[experts]()), y, x)
    assert whole.bound == some.bound
    # Products of more rows at once may round otherwise.
    torch.testing.assert_close(whole.responsibilities[seen], some.responsibilities, rtol=0.0, atol=1e-15)
    assert whole.weights is not None and torch.equal(whole.weights > 0, seen)
    assert whole.data is not None and whole.data.n_objects == float(seen.sum())
    assert float(whole.mixture.bound(x, y)) == pytest.approx(whole.bound, abs=1e-9)
    assigned = whole.mixture.assign(x, y)
    assert torch.equal(assigned.log_evidence[~seen], torch.zeros(int((~seen).sum())).to(x))
    by_gate = whole.mixture.gate.log_weights(x).softmax(-2).mT.detach()
    torch.testing.assert_close(assigned.responsibilities[~seen], by_gate.expand(N, 2)[~seen])
    log_prob = whole.mixture.log_prob(x, y)
    assert bool((log_prob[~seen].abs() < 1e-12).all())
    torch.testing.assert_close(log_prob[seen], some.mixture.log_prob(x[seen], y[seen]))
    assert bool(whole.mixture.predict(x).isfinite().all())
    one, other = criteria(whole, x, y), criteria(some, x[seen], y[seen])
    torch.testing.assert_close(torch.tensor(one), torch.tensor(other), equal_nan=True)


def test_weights_and_float32() -> None:
    x, y, seen = problem(dtype=torch.float32)
    weights = 1.0 + torch.arange(N).float() % 3
    whole, some = both(lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), y, x, weights=weights)
    assert whole.bound == some.bound
    assert whole.weights is not None and torch.equal(whole.weights, torch.where(seen, weights, 0.0))


def test_rows_of_a_group_are_predicted_by_its_others() -> None:
    x, y, seen = problem()
    ids = torch.arange(N) // 5
    y[:5] = NAN  # a group without any y
    whole, some = both(lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), y, x, groups=ids)
    assert whole.bound == some.bound
    assert torch.equal(whole.responsibilities[1:], some.responsibilities)
    assert whole.data is not None and whole.data.n_objects == 7.0
    assert float(whole.mixture.bound(x, y, groups=ids)) == pytest.approx(whole.bound, abs=1e-9)
    assert whole.mixture.log_prob(x, y, groups=ids)[0].abs() < 1e-12
    assert criteria(whole, x, y).bic == pytest.approx(criteria(some, x[seen][4:], y[seen][4:]).bic)
    assert float(linear_response(whole, x, y).covariance.diagonal().min()) > 0.0


def test_a_known_component_counts_without_outputs() -> None:
    """Two labels alone: the weights' posterior has them, and the evidence is that of a Dirichlet-categorical."""
    x, y, seen = problem()
    known = torch.arange(N) % 8 == 2
    result = fit(
        MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)),
        x,
        y,
        observed=torch.zeros(N, dtype=torch.long),
        mask=known,
        missing="ignore",
    )
    assert result.data is not None and result.data.n_objects == float((seen | known).sum())
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    labels = (torch.arange(N) % 16 == 2).long()
    fitted = fit(mixture, x, y, observed=labels, mask=known, missing="ignore", n_restarts=2, progress=False)
    one = torch.nn.functional.one_hot(labels, 2).double()
    assert torch.equal(fitted.responsibilities[known], one[known])
    prior = mixture.gate.prior.concentration[0]
    counted = fitted.responsibilities[seen | known].sum(0)
    torch.testing.assert_close(mixture.gate.posterior_concentration, prior + counted, atol=1e-3, rtol=1e-3)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, x, y, observed=labels, mask=known)
    assert abs(elbo - fitted.bound) < 0.05


@pytest.mark.parametrize("grouped", [False, True])
def test_the_elbo_of_pyro_is_the_bound(grouped: bool) -> None:
    x, y, _ = problem()
    groups: dict[str, Any] = {"groups": torch.arange(N) // 3} if grouped else {}
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, missing="ignore", n_restarts=2, tolerance=1e-14, progress=False, **groups)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, x, y, **groups)
    assert abs(elbo - result.bound) < 1e-6


def test_minibatches_and_streams() -> None:
    x, y, seen = problem()
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    options: dict[str, Any] = {"batch_size": 10, "n_restarts": 2, "n_epochs": 2, "progress": False}
    result = fit_minibatches(mixture, x, y, missing="ignore", **options)
    assert result.responsibilities.shape == (N, 2) and float(mixture.bound(x, y)) == pytest.approx(result.bound)
    whole, some = (StreamingFit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), n_restarts=2) for _ in "ab")
    for rows in (slice(0, 20), slice(20, N)):
        whole.partial_fit(x[rows], y[rows], missing="ignore")
        some.partial_fit(x[rows][seen[rows]], y[rows][seen[rows]])
    assert whole.n_seen == some.n_seen == float(seen.sum())
    torch.testing.assert_close(whole.mixture.experts.coefficients, some.mixture.experts.coefficients)
    assert whole.mixture.fitted_columns is not None and whole.mixture.fitted_columns.missing


def test_reports_take_rows_without_outputs_as_not_there(tmp_path: Any) -> None:
    x, y, seen = problem()
    whole, some = both(lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), y, x)
    one, other = linear_response(whole, x, y), linear_response(some, x[seen], y[seen])
    torch.testing.assert_close(one.covariance, other.covariance)
    names = list(coefficients(some, x[seen], y[seen]))
    assert list(coefficients(whole, x, y)) == names
    for report in (to_arviz, exact_loo):
        with pytest.raises(ValueError, match=r"`y` must have no missing outputs for .*Fit the rows"):
            report(whole, x, y)
    save(whole.mixture, tmp_path / "mixture.pt")
    for again in (load(tmp_path / "mixture.pt"), copy.deepcopy(whole.mixture)):
        assert float(again.bound(x, y)) == pytest.approx(whole.bound, abs=1e-9)
    with pytest.raises(ValueError, match=r"`y` must be finite; got 10 NaN"):
        whole.mixture.assign(x, y, missing="error")


def test_wrong_arguments() -> None:
    x, y, _ = problem()

    def mixture(gate: Any = None, experts: Any = None) -> MixtureOfExperts:
        return MixtureOfExperts(gate or DirichletGate(2), experts or LinearExperts(2, 1))

    with pytest.raises(ValueError, match=r"`y` must be finite; got 10 NaN .*missing='ignore'"):
        fit(mixture(), x, y)
    with pytest.raises(ValueError, match=r"`missing` must be 'error', or 'ignore' .*got 'drop'"):
        fit(mixture(), x, y, missing="drop")
    with pytest.raises(ValueError, match=r"`x` must be finite; .*only y may be missing"):
        fit(mixture(), torch.where(torch.arange(N)[:, None] == 0, NAN, x), y, missing="ignore")
    with pytest.raises(ValueError, match=r"`y` must be finite, or NaN .*got infinite"):
        fit(mixture(), x, torch.where(torch.arange(N)[:, None] == 0, torch.inf, y), missing="ignore")
    with pytest.raises(ValueError, match=r"`y` must have a value in some row"):
        fit(mixture(), x, torch.full_like(y, NAN), missing="ignore")
    with pytest.raises(ValueError, match=r"`y` must have a value in each object for a ObjectDirichletGate"):
        fit(mixture(ObjectDirichletGate(2)), x, y, missing="ignore")
    with pytest.raises(ValueError, match="a row whose weight is not 0"):
        fit(mixture(), x, y, weights=y.isnan()[:, 0].double(), missing="ignore")
