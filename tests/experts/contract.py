"""What every bank of experts must do; the test of each family inherits it."""

import copy
import io
from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from mixpyro.experts.base import Experts
from mixpyro.fitted_part import State
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.numerics import nested
from tests.problems import lines, responsibilities

K = 3
N_FEATURES = 2
N_RUNS = 3


def by_gradient(part: Any, *rows: Tensor) -> None:
    """Pyro's SVI, which a fit offers to parts with parameters."""
    MStep(part).improve(*rows, n_steps=50)


def assert_equal_states(first: Any, second: Any, *, tolerance: float = 1e-10) -> None:
    """Compare two nests of tensors."""
    for ours, theirs in zip(nested.tensors(first), nested.tensors(second), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class ExpertsContract:
    """Inherited by ``Test<Family>``, which gives :meth:`make` and, where lines with noise do not fit, :meth:`data`."""

    n_outputs: ClassVar[int] = 1

    def make(self, n_components: int = K) -> Experts:
        """Experts that have seen no data, for x [N, 2] and y [N, n_outputs]."""
        raise NotImplementedError

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and responsibilities."""
        x, y, _ = lines(n_objects, K, n_features=N_FEATURES, n_outputs=self.n_outputs)
        return x, y, responsibilities(n_objects, K)

    def learn(self, experts: Experts, x: Tensor, y: Tensor, r: Tensor) -> None:
        """Bring the experts to their optimum given responsibilities, or nearer to it."""
        experts.maximise(x, y, r, by_gradient=by_gradient)

    def updated(self) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Experts after they have learnt from data, with the data."""
        experts, (x, y, r) = self.make(), self.data()
        self.learn(experts, x, y, r)
        return experts, x, y, r

    def runs(self) -> tuple[Any, list[Any], State]:
        """Experts, and the states of three runs of them, one by one and with a leading axis."""
        experts, (x, y, _) = self.make(), self.data()
        states = []
        for seed in range(N_RUNS):
            self.learn(experts, x, y, responsibilities(len(x), K, seed=seed))
            states.append(experts.state())
        return experts, states, nested.stack(states)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_results_have_the_dtype_and_rows_of_x(self, dtype: torch.dtype) -> None:
        experts, x, y, _ = self.updated()
        x, y = x[:4].to(dtype), y[:4].to(dtype)
        likelihood, prediction = experts.expected_log_likelihood(x, y), experts.predict(x)
        assert likelihood.shape == (4, K)
        assert prediction.shape[:2] == (4, K)
        assert likelihood.dtype == prediction.dtype == dtype

    def test_a_state_is_taken_over(self) -> None:
        experts, states, _ = self.runs()
        for state in states:
            experts.hold(state)
            assert_equal_states(experts.state(), state, tolerance=0.0)
        fresh = self.make()
        fresh.hold(states[0])
        experts.hold(states[0])
        x, y, _ = self.data()
        assert torch.equal(fresh.expected_log_likelihood(x, y), experts.expected_log_likelihood(x, y))

    def test_a_state_is_a_copy(self) -> None:
        experts, x, y, r = self.updated()
        state = experts.state()
        before = nested.apply(torch.clone, state)
        self.learn(experts, x, y, r.flip(1))
        assert_equal_states(state, before, tolerance=0.0)

    def test_likelihoods_and_divergences_of_several_runs_are_those_of_each(self) -> None:
        experts, states, together = self.runs()
        x, y, _ = self.data()
        columns = experts.columns(*experts.check_data(x, y))
        likelihoods = experts.log_likelihoods(columns, together).expand(N_RUNS, K, len(x))
        divergences = experts.divergences(together).expand(N_RUNS)
        for run, state in enumerate(states):
            experts.hold(state)
            torch.testing.assert_close(likelihoods[run].mT, experts.expected_log_likelihood(x, y))
            torch.testing.assert_close(divergences[run], experts.kl_divergence())
            assert_equal_states(experts.log_likelihoods(columns), likelihoods[run])

    def test_several_runs_go_on_as_each_alone(self) -> None:
        experts, states, together = self.runs()
        x, y, _ = self.data()
        columns = experts.columns(*experts.check_data(x, y))
        r = torch.stack([responsibilities(len(x), K, seed=10 + run).mT for run in range(N_RUNS)])
        sums = experts.sums(columns, r)
        after = experts.advanced(together, sums, (x, y), r, by_gradient)
        for run, state in enumerate(states):
            alone = nested.apply(lambda part: part.unsqueeze(0), state)
            share = r[run : run + 1]
            alone_sums = experts.sums(columns, share)
            assert_equal_states(nested.select(sums, slice(run, run + 1)), alone_sums)
            alone_after = experts.advanced(alone, alone_sums, (x, y), share, by_gradient)
            # Newton's method ends where a step gains nothing that is seen, with others or alone.
            tolerance = 1e-8 if experts.takes_steps else 1e-10
            assert_equal_states(nested.select(after, slice(run, run + 1)), alone_after, tolerance=tolerance)

    def test_state_dict_round_trip_with_weights_only(self) -> None:
        experts, x, y, _ = self.updated()
        file = io.BytesIO()
        torch.save(experts.state_dict(), file)
        file.seek(0)
        fresh = self.make()
        fresh.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(fresh.expected_log_likelihood(x, y), experts.expected_log_likelihood(x, y))

    def test_draws_in_a_plate_to_the_left_have_the_densities_of_single_draws(self) -> None:
        """Diagnostics draw from the guide once, with the component enumerated to the left."""
        experts, x, y, _ = self.updated()
        components = torch.arange(K).reshape(K, 1, 1)
        with pyro.plate("draws", 4, dim=-2):
            trace = poutine.trace(experts.guide).get_trace(x)
            together = experts.likelihood(x, trace.nodes["_RETURN"]["value"], components).log_prob(y)
        sites: dict[str, Any] = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}
        for number in range(4):
            one = {name: values[number, 0] for name, values in sites.items() if name != "draws"}
            parameters = poutine.condition(experts.model, data=one)(x)
            for k in range(K):
                alone = experts.likelihood(x, parameters, torch.full((len(x),), k)).log_prob(y)
                torch.testing.assert_close(together.expand(K, 4, len(x))[k, number], alone)

    @pytest.mark.cuda
    def test_on_cuda_as_on_cpu(self) -> None:
        experts, x, y, r = self.updated()
        on_cpu, experts = experts, copy.deepcopy(experts).cuda()
        self.learn(on_cpu, x, y, r)
        expected, divergence = on_cpu.expected_log_likelihood(x, y), on_cpu.kl_divergence()
        x, y, r = x.cuda(), y.cuda(), r.cuda()
        self.learn(experts, x, y, r)
        torch.testing.assert_close(experts.expected_log_likelihood(x, y).cpu(), expected)
        torch.testing.assert_close(experts.kl_divergence().cpu(), divergence)

    def bad_data(self, experts: Experts, x: Tensor, y: Tensor) -> list[tuple[tuple[Tensor, Tensor], str]]:
        """Data that must be refused, each with the message."""
        spoilt = x.clone()
        spoilt[3, 1] = float("nan")
        # Experts without inputs take any x.
        columns = x.shape[1] if experts.n_features else "D"
        one_column = ((x[:, :1], y), rf"`x` must have shape \[N, {columns}\].*got \[30, 1\]")
        return [
            *([one_column] if experts.n_features else []),
            ((spoilt, y), f"`x` must be finite; got 1 NaN or infinite values of {x.numel()}"),
            ((x, torch.full_like(y, torch.inf)), "`y` must be finite"),
            ((x, torch.cat([y, y], 1)), rf"`y` must have shape \[N, {self.n_outputs}\].*got \[30,"),
            ((x, y[:5]), "`y` must have as many rows as `x`, 30; got 5"),
            ((x, y.float()), r"`y` must have the dtype of `x`, torch.float64; got torch.float32"),
            ((x[:0], y[:0]), rf"`x` must have shape \[N, [D{columns}]\], no axis empty; got \[0, {x.shape[1]}\]"),
        ]

    @pytest.mark.usefixtures("bad_arguments")
    def test_bad_data_are_refused(self) -> None:
        experts, x, y, _ = self.updated()
        state = copy.deepcopy(experts.state_dict())
        for arguments, message in self.bad_data(experts, x, y):
            for refusing in self.refusing(experts):
                with pytest.raises(ValueError, match=message):
                    refusing(*arguments)
        for name, value in experts.state_dict().items():
            assert torch.equal(value, state[name])

    def refusing(self, experts: Experts) -> list[Callable[[Tensor, Tensor], Any]]:
        """What must refuse bad data."""
        return [experts.check_data, experts.expected_log_likelihood]

    @pytest.mark.usefixtures("bad_arguments")
    @pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (2.5, TypeError)])
    def test_a_bad_number_of_components_is_refused(self, bad: object, error: type[Exception]) -> None:
        with pytest.raises(error, match=f"`n_components` must be .*got {bad}"):
            self.make(bad)  # type: ignore[arg-type]


class ConjugateExpertsContract(ExpertsContract):
    """What experts must do besides if their parameters are latent, with a posterior that is updated."""

    def learn(self, experts: Any, x: Tensor, y: Tensor, r: Tensor) -> None:
        """By the conjugate update."""
        experts.update(experts.statistics(x, y, r))

    def test_statistics_of_two_halves_add_up(self) -> None:
        experts, (x, y, r) = self.make(), self.data()
        halves = nested.add(*(experts.statistics(x[rows], y[rows], r[rows]) for rows in (slice(9), slice(9, None))))
        assert_equal_states(halves, experts.statistics(x, y, r))

    def test_a_row_of_weight_three_is_three_rows(self) -> None:
        experts, (x, y, r) = self.make(), self.data()
        thrice = experts.statistics(x.repeat(3, 1), y.repeat(3, 1), r.repeat(3, 1))
        assert_equal_states(experts.statistics(x, y, 3 * r), thrice)

    def refusing(self, experts: Any) -> list[Callable[[Tensor, Tensor], Any]]:
        """Statistics too."""
        return [*super().refusing(experts), lambda x, y: experts.statistics(x, y, responsibilities(30, K))]

    @pytest.mark.usefixtures("bad_arguments")
    def test_bad_responsibilities_are_refused(self) -> None:
        experts, x, y, r = self.updated()
        for bad, message in (
            (r[:, :2], r"`responsibilities` must have shape \[30, 3\].*got \[30, 2\]"),
            (-r, "`responsibilities` must be finite and non-negative"),
        ):
            with pytest.raises(ValueError, match=message):
                experts.statistics(x, y, bad)

    def test_kl_divergence_is_float64_positive_after_data_and_zero_before(self) -> None:
        experts, _, _, _ = self.updated()
        assert experts.kl_divergence().dtype == torch.float64
        assert experts.kl_divergence() > 0
        assert abs(self.make().kl_divergence()) < 1e-12

    def test_the_expected_log_likelihood_is_the_mean_over_the_guide(self) -> None:
        experts, x, y, _ = self.updated()
        x, y, z = x[:5], y[:5], torch.arange(5) % K
        draws = []
        for _ in range(600):
            parameters = experts.guide(x)
            draws.append(experts.likelihood(x, parameters, z).log_prob(y))
        samples = torch.stack(draws)
        error = samples.std(0) / len(samples) ** 0.5
        exact = experts.expected_log_likelihood(x, y)[torch.arange(5), z]
        assert ((samples.mean(0) - exact).abs() < 4.5 * error).all()

    def test_the_update_is_the_optimum_of_the_experts_part_of_the_bound(self) -> None:
        experts, x, y, r = self.updated()
        best = experts.partial_bound(x, y, r)
        for step_size in (0.5, 0.05):
            nearby = copy.deepcopy(experts)
            nearby.update(nearby.statistics(x, y, r * torch.rand_like(r)), step_size=step_size)
            assert nearby.partial_bound(x, y, r) < best

    def test_half_steps_lead_to_the_optimum(self) -> None:
        experts, (x, y, r) = self.make(), self.data()
        statistics = experts.statistics(x, y, r)
        for _ in range(60):
            experts.update(statistics, step_size=0.5)
        exact = self.make()
        exact.update(statistics)
        for name, value in exact.state_dict().items():
            torch.testing.assert_close(experts.state_dict()[name], value)

    def test_the_predictive_mean_is_the_prediction(self) -> None:
        experts, x, _, _ = self.updated()
        torch.testing.assert_close(experts.predictive(x).mean, experts.predict(x))


class EstimatedExpertsContract(ExpertsContract):
    """What experts must do besides if their parameters are estimated, by a method of their own."""

    def test_svi_finds_nothing_better(self) -> None:
        """The generic default, from where the family's own method ended and from the start, agrees with it."""
        experts, x, y, r = self.updated()
        best = float(experts.partial_bound(x, y, r).detach())
        MStep(experts).improve(x, y, r, n_steps=50)
        assert float(experts.partial_bound(x, y, r).detach()) == pytest.approx(best, abs=1e-7)
        fresh = self.make()
        m_step = MStep(fresh)
        for _ in range(8):
            m_step.improve(x, y, r, n_steps=50)
        assert float(fresh.partial_bound(x, y, r).detach()) == pytest.approx(best, abs=1e-5)

    def test_the_log_likelihood_is_that_of_the_pyro_distribution(self) -> None:
        experts, x, y, _ = self.updated()
        z = torch.arange(len(x)) % K
        by_pyro = experts.likelihood(x, experts.guide(x), z).log_prob(y)
        ours = experts.expected_log_likelihood(x, y)[torch.arange(len(x)), z]
        torch.testing.assert_close(by_pyro, ours)

    def test_three_rows_are_a_row_of_weight_three(self) -> None:
        experts, x, y, r = self.updated()
        thrice = self.make()
        self.learn(thrice, x.repeat(3, 1), y.repeat(3, 1), r.repeat(3, 1) / 3)
        torch.testing.assert_close(thrice.expected_log_likelihood(x, y), experts.expected_log_likelihood(x, y))

    def test_a_component_without_objects_stays_finite(self) -> None:
        experts, (x, y, r) = self.make(), self.data()
        r[:, 0] = 0.0
        self.learn(experts, x, y, r)
        assert all(torch.isfinite(parameter).all() for parameter in experts.parameters())
