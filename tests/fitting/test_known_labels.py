"""Rows whose component is known: exact answers, by hand, by Pyro, and over gates, experts and dtypes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy import stats
from scipy.special import gammaln
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    fit,
)
from mixpyro.fitting.fitted_rows import fitted_rows
from tests import products
from tests.fitting.known_labels import PRECISION, A, B, half_known, linear, maximum_likelihood
from tests.problems import in_plate, lines

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def log_evidence_of_lines(x: Tensor, y: Tensor) -> float:
    """Log evidence of one regression under that prior: y has a multivariate Student-t distribution."""
    u = np.concatenate([np.ones((len(x), 1)), x.numpy()], axis=1)
    scale = B / A * (np.eye(len(x)) + u @ u.T / PRECISION)
    return float(stats.multivariate_t(np.zeros(len(x)), scale, df=2 * A).logpdf(y[:, 0].numpy()))


def test_with_all_known_the_bound_is_the_exact_log_evidence() -> None:
    x, y, z = lines(50, 3, noise=1.0)
    alpha = np.array([0.5, 1.0, 2.0])
    result = fit(MixtureOfExperts(DirichletGate(3, concentration=alpha.tolist()), linear(3)), x, y, observed=z)
    counts = z.bincount(minlength=3)
    mass = gammaln(alpha.sum()) - gammaln(alpha.sum() + 50) + (gammaln(alpha + counts.numpy()) - gammaln(alpha)).sum()
    exact = mass + sum(log_evidence_of_lines(x[z == k], y[z == k]) for k in range(3))
    assert abs(result.bound - exact) < 1e-9 * abs(exact)
    gate, experts = result.mixture.gate, result.mixture.experts
    assert isinstance(gate, DirichletGate) and isinstance(experts, LinearExperts)
    torch.testing.assert_close(gate.posterior_concentration, torch.as_tensor(alpha) + counts)
    for k in range(3):
        u = torch.cat([torch.ones(len(x), 1), x], dim=1)[z == k].double()
        ridge = torch.linalg.solve(u.mT @ u + PRECISION * torch.eye(2).double(), u.mT @ y[z == k])
        torch.testing.assert_close(experts.coefficients[k], ridge.mT)
    assert torch.equal(result.responsibilities, torch.eye(3).double()[z])
    assert len(result.runs) == 1 and len(result.optima) == 1


def em_by_hand(x: Tensor, y: Tensor, z: Tensor, known: Tensor, n_iterations: int = 3000) -> tuple[float, Tensor]:
    """Maximum likelihood of two lines with weights and noises of their own, from the known rows on."""
    u = torch.cat([torch.ones_like(x), x], dim=1)
    r = torch.where(known[:, None], torch.eye(2).double()[z], 0.5)
    bound = -math.inf
    for _ in range(n_iterations):
        weights = r.sum(0) / len(x)
        gram = torch.einsum("nk,ne,nf->kef", r, u, u)
        lines_ = torch.linalg.solve(gram, torch.einsum("nk,ne,n->ke", r, u, y[:, 0]))
        residuals = y - u @ lines_.mT
        variances = (r * residuals.square()).sum(0) / r.sum(0)
        joint = weights.log() - 0.5 * (2 * math.pi * variances).log() - 0.5 * residuals.square() / variances
        own = joint.gather(1, z[:, None])[:, 0]
        bound = float(torch.where(known, own, joint.logsumexp(1)).sum())
        r = torch.where(known[:, None], torch.eye(2).double()[z], joint.softmax(1))
    return bound, r


@pytest.mark.usefixtures("without_type_checks")
def test_with_some_known_it_is_em_by_hand() -> None:
    x, y, z = lines(80, 2, noise=1.5)
    known = half_known(80, 20)
    bound, r = em_by_hand(x, y, z, known)
    start = torch.full((80, 2), 0.5).double()
    result = maximum_likelihood(x, y, observed=z, mask=known, initial_responsibilities=start)
    assert abs(result.bound - bound) < 1e-6
    torch.testing.assert_close(result.responsibilities, r, atol=1e-4, rtol=0.0)
    assert maximum_likelihood(x, y, observed=z, mask=known).bound > bound - 1e-6


@pytest.mark.parametrize("gate", ["dirichlet", "object", "marginal"])
def test_the_bound_is_that_of_a_pyro_program_with_known_assignments(gate: str) -> None:
    x, y, z = lines(40, 2, noise=1.0)
    known = half_known(40, 15)
    gates: dict[str, Callable[[], Any]] = {
        "dirichlet": lambda: DirichletGate(2),
        "object": lambda: ObjectDirichletGate(2, concentration=3.0),
        "marginal": lambda: MarginalObjectDirichletGate(2, mean=[1.0, 2.0]),
    }
    mixture = MixtureOfExperts(gates[gate](), linear(2))
    result = fit(mixture, x, y, observed=z, mask=known, n_restarts=3, tolerance=1e-12, progress=False)
    r = result.responsibilities
    mixture.gate.update(mixture.gate.statistics(x, r))
    mixture.experts.update(mixture.experts.statistics(x, y, r))

    def model(x: Tensor, y: Tensor) -> None:
        plate = pyro.plate("objects", len(x), dim=-1)
        parameters = mixture.experts.model(x)
        assignment = mixture.gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", mixture.experts.likelihood(x, parameters, assignment), obs=y)
            # Not −∞: the guide's probability is not quite 0, and 0 · ∞ is no number.
            pyro.factor("known", torch.where(known & (assignment != z), -1e5, 0.0).double())

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=r, objects=slice(None))

    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide, x, y)
    assert abs(elbo - result.bound) < 1e-6


def bound_by_hand(mixture: MixtureOfExperts, x: Tensor, y: Tensor, z: Tensor, known: Tensor) -> float:
    """Σ of the log joint at the label, or of its logsumexp, less the divergences."""
    with torch.no_grad():
        joint = mixture.expected_log_joint(x, y, objects=slice(None)).double()
        own = joint.gather(1, z[:, None])[:, 0]
        return float(torch.where(known, own, joint.logsumexp(1)).sum() - mixture.kl_divergence())


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("gate", "experts"),
    [*products.PAIRS, ("object", "linear"), ("neural", "linear"), ("dirichlet", "neural")],
)
def test_every_gate_and_every_family_use_what_is_known(gate: str, experts: str, dtype: torch.dtype) -> None:
    x, y = products.data(experts, dtype)
    z, known = (x[:, 1] > 0).long(), half_known(len(x), 16)
    if experts in ("inflated",):
        # Component 0 can have zeros alone.
        z = (y > 0).long()
    mixture = products.mixture(gate, experts)
    given = torch.where(known, z, 17)
    options = {"n_restarts": 2, "n_candidates": 2, "max_iterations": 8, "n_gradient_steps": 5, "n_annealing": 2}
    result = fit(mixture, x, y, observed=given, mask=known, progress=False, **options)  # type: ignore[arg-type]
    assert torch.equal(result.responsibilities[known], torch.eye(2, dtype=dtype)[z[known]])
    assert not torch.equal(result.responsibilities[~known], torch.eye(2, dtype=dtype)[z[~known]])
    slack = (1e-9 if dtype == torch.float64 else 2e-4) * (1.0 + abs(result.bound))
    for run in result.runs:
        assert (torch.diff(torch.tensor(run.trace).double()) > -slack).all()
    for held in (mixture, result.at(0)):
        assert abs(bound_by_hand(held, x, y, z, known) - result.bound) < slack
    assert result.observed is not None and torch.equal(result.observed, torch.where(known, z, -1))
    assert fitted_rows(result, x, y).labels is not None
    # New rows have no labels.
    assigned = mixture.assign(x, y, objects=slice(None)).responsibilities
    torch.testing.assert_close(assigned[~known], result.responsibilities[~known], atol=1e-4, rtol=1e-4)
    assert not torch.equal(assigned[known], result.responsibilities[known])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_labels_say_which_component_is_which(swapped: bool, noise: float) -> None:
    x, y, z = lines(200, 3, noise=noise)
    z = (z + 1) % 3 if swapped else z
    known = half_known(200, 30)
    mixture = MixtureOfExperts(DirichletGate(3), linear(3))
    fit(mixture, x, y, observed=z, mask=known, n_restarts=6, progress=False)
    u = torch.cat([torch.ones_like(x), x], dim=1)
    for k in range(3):
        ours = torch.linalg.lstsq(u[z == k], y[z == k]).solution.mT
        assert (mixture.experts.coefficients[k] - ours).abs().max() < 3.0 * noise / math.sqrt(20)


def test_weights_count_known_rows_too() -> None:
    x, y, z = lines(40, 2, noise=1.0)
    known, weights = half_known(40, 20), torch.arange(40).double() % 3
    repeated = torch.arange(40).repeat_interleave(weights.long())
    start = torch.eye(2).double()[z]

    def fitted(rows: Tensor, weights: Tensor | None) -> FitResult:
        mixture = MixtureOfExperts(DirichletGate(2), linear(2))
        given = {"observed": z[rows], "mask": known[rows], "initial_responsibilities": start[rows]}
        return fit(mixture, x[rows], y[rows], weights=weights, tolerance=1e-12, progress=False, **given)  # type: ignore[arg-type]

    weighted, plain = fitted(torch.arange(40), weights), fitted(repeated, None)
    assert abs(weighted.bound - plain.bound) < 1e-8
    assert torch.equal(weighted.responsibilities[known], start[known])
    torch.testing.assert_close(weighted.responsibilities[repeated], plain.responsibilities, atol=1e-6, rtol=0.0)
    fitted_rows(weighted, x, y)


def test_no_labels_are_no_labels() -> None:
    x, y, z = lines(40, 2)
    plain = fit(MixtureOfExperts(DirichletGate(2), linear(2)), x, y, n_restarts=2, progress=False)
    none = torch.zeros(40, dtype=torch.bool)
    other = fit(
        MixtureOfExperts(DirichletGate(2), linear(2)), x, y, observed=z, mask=none, n_restarts=2, progress=False
    )
    assert plain.trace == other.trace and other.observed is None
    assert torch.equal(plain.responsibilities, other.responsibilities)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_of_any_integer_dtype(kind: torch.dtype) -> None:
    x, y, z = lines(30, 2)
    results = [
        fit(MixtureOfExperts(DirichletGate(2), linear(2)), x, y, observed=labels, n_restarts=1, progress=False)
        for labels in (z, z.to(kind))
    ]
    assert results[0].bound == results[1].bound


def test_a_checkpoint_belongs_to_its_labels(tmp_path: Path) -> None:
    x, y, z = lines(40, 2, noise=1.0)
    known = half_known(40, 10)

    def fitted(labels: Tensor | None) -> FitResult:
        mixture = MixtureOfExperts(DirichletGate(2), linear(2))
        mask = None if labels is None else known
        return fit(
            mixture, x, y, observed=labels, mask=mask, n_restarts=2, checkpoint=tmp_path / "file", progress=False
        )

    first = fitted(z)
    assert fitted(z).trace == first.trace
    assert fitted(torch.where(known, z, 0)).trace == first.trace
    for other in (None, 1 - z):
        with pytest.raises(ValueError, match="`checkpoint` must belong to this fit"):
            fitted(other)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("observed", "mask", "error", "message"),
    [
        (None, torch.ones(20, dtype=torch.bool), ValueError, "`mask` must be None without `observed`"),
        ([0] * 19, None, ValueError, r"`observed` must have shape \[20\].*got \[19\]"),
        ("first", None, TypeError, "`observed` must be a tensor, an array, a list, a DataFrame or a Series; got str"),
        (torch.zeros(20), None, TypeError, "`observed` must hold integers; got torch.float32"),
        (torch.zeros(20, dtype=torch.bool), None, TypeError, "`observed` must hold integers; got torch.bool"),
        (torch.zeros(19).long(), None, ValueError, r"`observed` must have shape \[20\].*got \[19\]"),
        (torch.zeros(20, 1).long(), None, ValueError, r"`observed` must have shape \[20\].*got \[20, 1\]"),
        (torch.full((20,), 2), None, ValueError, "`observed` must be from 0 to 1 where it is known; got 2"),
        (torch.full((20,), -1), None, ValueError, "`observed` must be from 0 to 1 where it is known; got -1"),
        (torch.zeros(20).long(), torch.ones(20), TypeError, "`mask` must have dtype torch.bool; got torch.float32"),
        (torch.zeros(20).long(), torch.ones(3).bool(), ValueError, r"`mask` must have shape \[20\].*got \[3\]"),
        (torch.zeros(20).long(), [True] * 3, ValueError, r"`mask` must have shape \[20\].*got \[3\]"),
    ],
)
def test_bad_labels_are_refused_and_change_nothing(
    observed: Any, mask: Any, error: type[Exception], message: str
) -> None:
    x, y, _ = lines(20, 2)
    mixture = MixtureOfExperts(DirichletGate(2), linear(2))
    before = {name: value.clone() for name, value in mixture.state_dict().items()}
    with pytest.raises(error, match=message):
        fit(mixture, x, y, observed=observed, mask=mask)
    assert all(torch.equal(value, before[name]) for name, value in mixture.state_dict().items())


def test_a_row_that_its_component_cannot_have_is_refused() -> None:
    x, y = products.data("inflated")
    with pytest.raises(RuntimeError, match="each row must be possible under its component"):
        fit(
            products.mixture("dirichlet", "inflated"),
            x,
            y,
            observed=torch.zeros(len(x)).long(),
            n_restarts=1,
            progress=False,
        )
