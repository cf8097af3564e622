"""The distinct optima that a fit keeps."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    fit,
    fit_minibatches,
)
from mixpyro.experts.families import Gaussian
from mixpyro.fitting.optima import MOST_STATES, Ends
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.table import Table
from tests.problems import lines

pytestmark = pytest.mark.usefixtures("without_type_checks")
MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "conjugate": lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)),
    "object": lambda: MixtureOfExperts(ObjectDirichletGate(3), LinearExperts(3, 1)),
    "likelihood": lambda: MixtureOfExperts(SoftmaxGate(3, 0), GLMExperts(3, 0, Gaussian(), prior_scale=9.0)),
}


def fitted(name: str, **options: object) -> tuple[FitResult, Tensor, Tensor, dict[str, Any]]:
    """Fit three lines with much noise, where restarts end at several optima."""
    x, y, _ = lines(60 if name != "likelihood" else 20, 3, noise=0.8, seed=1)
    gate = {"gate_x": x[:, :0]} if name == "likelihood" else {}
    return fit(MIXTURES[name](), x, y, n_restarts=8 if gate else 4, progress=False, **gate, **options), x, y, gate  # type: ignore[arg-type]


# Without options, made once and only looked at.
whole_fit = functools.cache(fitted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", MIXTURES)
def test_every_optimum_has_its_bound_and_its_mixture(name: str) -> None:
    result, x, y, gate = whole_fit(name)
    assert len(result.optima) > 1
    assert sorted(run for one in result.optima for run in one.runs) == list(range(len(result.runs)))
    assert result.optima[0].n_runs >= result.n_reached_best()
    for number, one in enumerate(result.optima):
        mixture = result.at(number)
        assert float(mixture.bound(x, y, objects=slice(None), **gate)) == pytest.approx(one.bound, abs=1e-8)
        assert all(abs(result.runs[run].bound - one.bound) < 0.01 for run in one.runs)
    torch.testing.assert_close(result.at(0).predict(x, **gate), result.mixture.predict(x, **gate))
    bounds = [one.bound for one in result.optima]
    assert min(abs(a - b) for a in bounds for b in bounds if a != b) > result.difference_at_one_optimum
    with pytest.raises(IndexError):
        result.at(len(result.optima))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", MIXTURES)
def test_a_fit_that_goes_on_from_its_file_has_the_same_optima(name: str, tmp_path: Path) -> None:
    whole, *_ = whole_fit(name)
    for _ in range(2):  # the second call finds a finished fit
        again, *_ = fitted(name, checkpoint=tmp_path / "file", checkpoint_seconds=0.0)
        assert [dataclasses.replace(one, state=None) for one in again.optima] == [
            dataclasses.replace(one, state=None) for one in whole.optima
        ]
        for number in range(len(whole.optima)):
            known = whole.at(number).state_dict()
            assert all(torch.equal(value, known[key]) for key, value in again.at(number).state_dict().items())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_a_result_was_made_from() -> None:
    result, x, *_ = fitted("conjugate", seed=5, tolerance=1e-6)
    assert result.data is not None
    assert (result.data.n_rows, result.data.n_features, result.data.n_outputs) == (60, 1, 1)
    assert (result.data.n_gate_features, result.data.dtype, result.data.device) == (None, x.dtype, x.device)
    assert result.options["seed"] == 5
    assert result.options["tolerance"] == 1e-6
    assert set(result.versions) == {"mixpyro", "torch", "pyro", "python"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_in_minibatches_has_its_one_optimum() -> None:
    x, y, _ = lines(60, 3, noise=0.8, seed=1)
    result = fit_minibatches(MIXTURES["conjugate"](), x, y, batch_size=20, n_epochs=2, n_restarts=2)
    assert float(result.at(0).bound(x, y)) == pytest.approx(result.bound)
    assert result.options["batch_size"] == 20


def test_memory_is_bounded_and_the_best_states_stay() -> None:
    mixture = MIXTURES["conjugate"]()
    table = Table(torch.zeros(9, 1), torch.zeros(9, 1), torch.zeros(9, 1), None)
    ends, runs = Ends(1e-7), list[Run]()
    for number in range(2 * MOST_STATES):
        runs += [Run((float(number),), True), Run((float(number),), True)]
        for last in (len(runs) - 1, len(runs)):
            ends.add(runs[:last], mixture.state(), table)
    kept = sorted(runs[number].bound for number in ends.states)
    assert kept == [float(number) for number in range(MOST_STATES, 2 * MOST_STATES)]
