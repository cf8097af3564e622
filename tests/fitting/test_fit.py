"""Variational EM: the bound rises, the stopping rule holds, bad arguments change nothing."""

import copy
import warnings
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    fit,
)
from mixpyro.fitting.starts import random_assignments
from mixpyro.fitting.stopping import has_converged, has_stalled
from mixpyro.gates import Gate
from mixpyro.numerics import blocks
from tests.problems import lines

GATES = (
    lambda k: DirichletGate(k, concentration=0.5),
    lambda k: ObjectDirichletGate(k, concentration=3.0),
    lambda k: ObjectDirichletGate(k, concentration=3.0, learn_mean=True),
    lambda k: MarginalObjectDirichletGate(k, learn_mean=True),
    lambda k: NeuralGate(k, nn.Linear(2, k).double(), prior_scale=2.0),
)


def make(gate: Gate, n_features: int = 1) -> MixtureOfExperts:
    """A mixture with linear experts to match."""
    return MixtureOfExperts(gate, LinearExperts(gate.n_components, n_features))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("problem", range(50))
def test_the_bound_never_falls(problem: int) -> None:
    """Random sizes, noise, K and gates; rounding allowed."""
    k = 1 + problem % 4
    x, y, _ = lines(
        10 + 7 * (problem % 11), max(1, k - problem % 2), n_features=2, noise=0.05 + problem / 25, seed=problem
    )
    mixture = make(GATES[problem % len(GATES)](k), n_features=2)
    options: dict[str, Any] = {"n_restarts": 2, "max_iterations": 25, "tolerance": 0.0, "n_gradient_steps": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of two short runs, which seldom agree
        result = fit(mixture, x, y, seed=problem, **options)
    for run in result.runs:
        for before, after in zip(run.trace, run.trace[1:], strict=False):
            assert after >= before - 1e-11 * max(1.0, abs(before))


@pytest.mark.parametrize("make_gate", GATES)
def test_the_result_describes_the_fitted_mixture(make_gate: Any) -> None:
    x, y, _ = lines(60, 2, n_features=2)
    mixture = make(make_gate(2), n_features=2)
    result = fit(mixture, x, y, n_restarts=3)
    assert result.mixture is mixture
    assert result.converged
    assert result.bound == result.trace[-1] == max(run.bound for run in result.runs)
    everyone = slice(None)
    assert abs(mixture.bound(x, y, objects=everyone).item() - result.bound) < 1e-9
    assigned = mixture.assign(x, y, objects=everyone).responsibilities
    torch.testing.assert_close(assigned, result.responsibilities)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("make_gate", GATES)
def test_what_a_row_is_assigned_does_not_depend_on_its_number(make_gate: Any) -> None:
    """Without `objects` all rows are new: their order, and how many they are, makes no difference."""
    x, y, _ = lines(60, 2, n_features=2)
    mixture = make(make_gate(2), n_features=2)
    fit(mixture, x, y, n_restarts=3)
    order = torch.randperm(60)
    assigned = mixture.assign(x, y).responsibilities
    torch.testing.assert_close(mixture.assign(x[order], y[order]).responsibilities, assigned[order])
    torch.testing.assert_close(mixture.assign(x[:7], y[:7]).responsibilities, assigned[:7])
    torch.testing.assert_close(mixture.bound(x[order], y[order]), mixture.bound(x, y))
    named = mixture.assign(x[order], y[order], objects=order).responsibilities
    torch.testing.assert_close(named, mixture.assign(x, y, objects=slice(None)).responsibilities[order])


def test_the_components_are_found() -> None:
    x, y, z = lines(300, 3, n_features=2, noise=0.05, seed=4)
    result = fit(make(DirichletGate(3), n_features=2), x, y)
    agreement = torch.nn.functional.one_hot(z, 3).double().T @ result.responsibilities
    assert agreement.amax(-1).sum() > 0.95 * 300


def test_the_same_seed_gives_the_same_result() -> None:
    x, y, _ = lines(40, 2)
    first, second = (fit(make(DirichletGate(2)), x, y, n_restarts=3, seed=5) for _ in range(2))
    assert [run.trace for run in first.runs] == [run.trace for run in second.runs]
    assert torch.equal(first.responsibilities, second.responsibilities)


def test_a_start_of_the_users_own_is_the_only_one() -> None:
    x, y, z = lines(40, 2)
    start = torch.nn.functional.one_hot(z, 2).double()
    kept = start.clone()
    result = fit(make(DirichletGate(2)), x, y, initial_responsibilities=start)
    assert len(result.runs) == 1
    assert torch.equal(start, kept)


def test_float32_data_reach_the_float64_bound() -> None:
    x, y, _ = lines(500, 2)
    exact = fit(make(DirichletGate(2)), x, y, n_restarts=2).bound
    rounded = fit(make(DirichletGate(2)), x.float(), y.float(), n_restarts=2)
    assert rounded.converged
    assert abs(rounded.bound - exact) < 1e-4 * abs(exact)


def test_more_rows_than_a_block_give_the_same_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = lines(101, 2)
    gates = DirichletGate(2), ObjectDirichletGate(2, concentration=3.0)
    whole = [fit(make(copy.deepcopy(gate)), x, y, n_restarts=2).trace for gate in gates]
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1, least_rows=10, most_rows=10, e_step_factor=1))
    pieces = [fit(make(gate), x, y, n_restarts=2).trace for gate in gates]
    for first, second in zip(whole, pieces, strict=True):
        assert first == pytest.approx(second, rel=1e-12)


@pytest.mark.filterwarnings("ignore:only one of")
def test_one_row_and_one_component_are_enough() -> None:
    x, y, _ = lines(1, 1)
    assert fit(make(DirichletGate(1)), x, y).converged
    assert fit(make(DirichletGate(3)), x, y).bound < 0


def test_a_fit_leaves_the_users_world_alone() -> None:
    x, y, _ = lines(30, 2, n_features=2)
    pyro.param("gate.network$$$weight", torch.zeros(1))
    x.requires_grad_()
    mixture = make(NeuralGate(2, nn.Linear(2, 2).double()), n_features=2)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="only one of 3 restarts")
        fit(mixture, x, y, n_restarts=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is None
    assert list(pyro.get_param_store()) == ["gate.network$$$weight"]
    assert torch.equal(pyro.param("gate.network$$$weight"), torch.zeros(1))
    assert torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore:the noise of component")
def test_a_run_that_is_cut_off_says_so() -> None:
    x, y, _ = lines(60, 2)
    with pytest.warns(RuntimeWarning, match="has not converged in 2 iterations; raise `max_iterations`"):
        result = fit(make(DirichletGate(2)), x, y, n_restarts=1, max_iterations=2)
    assert not result.converged
    assert "NOT converged" in str(result)


def bad_calls() -> list[tuple[dict[str, object], type[Exception], str]]:
    """Arguments that fit refuses, with the error and its message."""
    nan, inf = torch.zeros(20, 1).double(), torch.zeros(20, 1).double()
    nan[3], inf[4] = float("nan"), float("inf")
    return [
        ({"x": nan}, ValueError, "`x` must be finite; got 1 NaN or infinite values of 20"),
        ({"x": inf}, ValueError, "`x` must be finite"),
        ({"y": nan}, ValueError, "`y` must be finite"),
        ({"y": inf[:, 0]}, ValueError, "`y` must be finite"),
        ({"x": torch.zeros(20).double()}, ValueError, r"`x` must have shape \[N, 1\].*got \[20\]"),
        ({"x": torch.zeros(20, 2).double()}, ValueError, r"`x` must have shape \[N, 1\].*got \[20, 2\]"),
        ({"x": torch.zeros(0, 1).double(), "y": torch.zeros(0, 1).double()}, ValueError, r"got \[0, 1\]"),
        (
            {"x": torch.zeros(20, 1, dtype=torch.complex64)},
            TypeError,
            "`x` must have a floating dtype; got torch.complex",
        ),
        ({"x": "rows"}, TypeError, "`x` must be a tensor, an array, a list, a DataFrame or a Series; got str"),
        ({"y": torch.zeros(19, 1).double()}, ValueError, "`y` must have as many rows as `x`, 20; got 19"),
        ({"y": torch.zeros(20, 2).double()}, ValueError, r"`y` must have shape \[N, 1\].*got \[20, 2\]"),
        ({"y": torch.zeros(20, 1)}, ValueError, "`y` must have the dtype of `x`, torch.float64; got torch.float32"),
        ({"n_restarts": 0}, ValueError, "`n_restarts` must be at least 1; got 0"),
        ({"max_iterations": 1.5}, TypeError, "`max_iterations` must be an integer; got 1.5"),
        ({"tolerance": -1e-3}, ValueError, "`tolerance` must be finite and at least 0; got -0.001"),
        ({"n_gradient_steps": 0}, ValueError, "`n_gradient_steps` must be at least 1; got 0"),
        ({"initial_responsibilities": torch.ones(20, 2)}, ValueError, "`initial_responsibilities` must differ"),
        ({"initial_responsibilities": torch.zeros(20, 2)}, ValueError, "`initial_resp.* positive sum in every row"),
        ({"mixture": LinearExperts(2, 1)}, TypeError, "`mixture` must be a mixture; got LinearExperts"),
        ({"seed": "x"}, TypeError, "`seed` must be an integer; got 'x'"),
        ({"initial_responsibilities": torch.ones(20, 3)}, ValueError, r"`initial_responsibilities` .*got \[20, 3\]"),
        (
            {"initial_responsibilities": -torch.ones(20, 2)},
            ValueError,
            "`initial_responsibilities` .*got values from -1",
        ),
    ]


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(("arguments", "error", "message"), bad_calls())
def test_bad_arguments_are_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    x, y, _ = lines(20, 2)
    mixture = make(DirichletGate(2))
    state = copy.deepcopy(mixture.state_dict())
    with pytest.raises(error, match=message):
        fit(**{"mixture": mixture, "x": x, "y": y, **arguments})  # type: ignore[arg-type]
    for name, value in mixture.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_failing_fit_leaves_the_mixture_as_it_was() -> None:
    class Breaking(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Breaking.calls += 1
            if Breaking.calls > 60:
                raise KeyboardInterrupt
            return super().forward(x)

    x, y, _ = lines(20, 2)
    mixture = make(NeuralGate(2, Breaking(1, 2).double()))
    state = copy.deepcopy(mixture.state_dict())
    with pytest.raises(KeyboardInterrupt):
        fit(mixture, x, y)
    for name, value in mixture.state_dict().items():
        assert torch.equal(value, state[name])


def test_infinite_bounds_are_an_error() -> None:
    x, y, _ = lines(20, 2)
    mixture = make(DirichletGate(2))
    with pytest.raises(RuntimeError, match="must allow a finite bound; got"):
        fit(mixture, x, 1e300 * y, n_restarts=1)
    assert torch.equal(mixture.gate.posterior_concentration, torch.ones(2).double())


def test_the_stopping_rule_extrapolates() -> None:
    """A bound that closes a tenth of its gap an iteration is not there when a single gain is small."""
    trace = [-(0.9**i) for i in range(60)]
    gains_alone = next(i for i in range(3, 60) if trace[i] - trace[i - 1] < 1e-2)
    stop = next(i for i in range(3, 60) if has_converged(trace[:i], 1e-2))
    assert stop > gains_alone
    assert 1e-3 < -trace[stop - 1] < 1.2e-2


def test_one_small_gain_is_not_the_end() -> None:
    """A run that comes to a plateau gains little for one iteration, then more and more again."""
    assert not has_converged([0.0, 3.64, 4.146, 4.146167], 1e-4)
    x, y, _ = lines(200, 3, noise=0.1, seed=16)
    mixture = make(DirichletGate(5, concentration=0.1))
    r = random_assignments(mixture, x, y, torch.Generator().manual_seed((16 << 20) + 2))
    result = fit(mixture, x, y, initial_responsibilities=r)
    exact = fit(make(DirichletGate(5, concentration=0.1)), x, y, initial_responsibilities=r, tolerance=1e-13)
    assert result.bound > exact.bound - 1e-3


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("x_mean", "y_mean"), [(0.0, 1e4), (1e4, 0.0), (2e3, -1e3)])
def test_data_far_from_zero_are_fitted_as_well_as_data_near_it(
    dtype: torch.dtype, x_mean: float, y_mean: float
) -> None:
    """With a prior so weak that the intercept costs nothing, only rounding could tell the two apart."""
    x, y, _ = lines(2000, 2, noise=0.1)
    x, y = x + x_mean, y + y_mean
    x, y = x.to(dtype), y.to(dtype)
    near, far = (MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1, coefficient_precision=1e-20)) for _ in range(2))
    exact = fit(near, x.double() - x_mean, y.double() - y_mean, n_restarts=2)
    result = fit(far, x, y, n_restarts=2)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    assert result.bound == pytest.approx(exact.bound, rel=tolerance)
    gap = 0 if dtype == torch.float64 else 1e-3 * abs(exact.bound)
    assert min(after - before for before, after in zip(result.trace, result.trace[1:], strict=False)) >= -1e-7 - gap
    order = [mixture.experts.coefficients[:, 0, 1].argsort() for mixture in (near, far)]
    torch.testing.assert_close(
        far.experts.noise_standard_deviations[order[1]],
        near.experts.noise_standard_deviations[order[0]],
        rtol=1e-3,
        atol=0,
    )


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_gate_with_badly_scaled_inputs_is_fitted_as_well(scale: float) -> None:
    x, y, _ = lines(200, 2)
    gate = NeuralGate(2, nn.Linear(1, 2).double())
    result = fit(MixtureOfExperts(gate, LinearExperts(2, 1, coefficient_precision=1e-8)), x, y, n_restarts=2)
    scaled = NeuralGate(2, nn.Linear(1, 2).double())
    assert result.converged
    experts = LinearExperts(2, 1, coefficient_precision=1e-8)
    other = fit(MixtureOfExperts(scaled, experts), scale * x + 5 * scale, y, n_restarts=2, max_iterations=3000)
    # The prior on the slopes weighs a little differently: log scale for each, and next to nothing else.
    gain = 2 * torch.tensor(scale).log().item()
    assert other.bound == pytest.approx(result.bound - gain, abs=0.05)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:only one of 2 restarts")
@pytest.mark.parametrize("make_gate", GATES)
def test_a_fit_on_cuda_is_that_on_the_cpu(make_gate: Any) -> None:
    x, y, _ = lines(60, 2, n_features=2)
    mixture = make(make_gate(2), n_features=2)
    twin = copy.deepcopy(mixture).cuda()
    on_cpu, on_cuda = fit(mixture, x, y, n_restarts=2), fit(twin, x.cuda(), y.cuda(), n_restarts=2)
    assert on_cuda.responsibilities.is_cuda
    assert on_cuda.bound == pytest.approx(on_cpu.bound, abs=1e-4)


def test_objects_with_a_posterior_each_take_no_row_weights() -> None:
    x, y, _ = lines(20, 2)
    with pytest.raises(ValueError, match="`weights` must be None for a ObjectDirichletGate"):
        fit(make(ObjectDirichletGate(2)), x, y, weights=torch.ones(20).double())


def test_rows_of_weight_zero_are_no_rows() -> None:
    """Whatever they hold."""
    x, y, _ = lines(60, 2)
    weights = (torch.arange(60) % 3 > 0).double()
    spoilt = torch.where(weights.unsqueeze(-1) > 0, y, 1e9)
    alone = fit(make(MarginalObjectDirichletGate(2, learn_mean=True)), x[weights > 0], y[weights > 0], n_restarts=4)
    beside = fit(make(MarginalObjectDirichletGate(2, learn_mean=True)), x, spoilt, weights=weights, n_restarts=4)
    assert beside.trace == alone.trace
    assert beside.responsibilities.shape == (60, 2)
    torch.testing.assert_close(beside.responsibilities[weights > 0], alone.responsibilities)


def test_a_run_that_rounding_keeps_from_its_end_ends() -> None:
    rising = [-(0.5**number) for number in range(20)]
    noisy = [-1.0 + 0.01 * (number % 3) for number in range(20)]
    assert not has_stalled(rising)
    assert not has_stalled(noisy[:12])
    assert has_stalled(noisy)


def test_what_experts_without_parameters_say_of_degeneracy_is_heard() -> None:
    class Wary(LinearExperts):
        def degeneracies(self, x: Tensor, y: Tensor, responsibilities: Tensor) -> list[str]:
            return ["it is wary"]

    x, y, _ = lines(40, 2)
    with pytest.warns(RuntimeWarning, match="every run is degenerate: it is wary"):
        fit(MixtureOfExperts(DirichletGate(2), Wary(2, 1)), x, y, n_restarts=2, progress=False)
