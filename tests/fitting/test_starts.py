"""Where runs start."""

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, ObjectDirichletGate, fit
from mixpyro.fitting.starts import Start, k_means, random_assignments, random_subsets, spread_rows
from mixpyro.numerics import blocks
from mixpyro.shapes import Inputs, Outputs
from tests.problems import lines

STARTS = [random_subsets, random_assignments, k_means]


def mixture(n_components: int = 3) -> MixtureOfExperts:
    """A small one."""
    return MixtureOfExperts(DirichletGate(n_components), LinearExperts(n_components, 1))


@pytest.mark.parametrize("start", STARTS)
def test_starts_are_on_the_simplex_and_differ_from_each_other(start: Start) -> None:
    x, y, _ = lines(30, 3)
    generator = Generator().manual_seed(0)
    drawn = [start(mixture(), x, y, generator) for _ in range(6)]
    for one in drawn:
        torch.testing.assert_close(one.sum(-1), torch.ones(30).double())
    assert len({tuple(one.flatten().tolist()) for one in drawn}) > 3


@pytest.mark.parametrize("start", STARTS)
def test_there_may_be_fewer_rows_than_components(start: Start) -> None:
    x, y, _ = lines(2, 3)
    assert torch.isfinite(start(mixture(), x, y, Generator().manual_seed(0))).all()


def test_random_assignments_use_every_component() -> None:
    x = torch.zeros(3000, 1)
    start = random_assignments(mixture(), x, x, Generator().manual_seed(0))
    torch.testing.assert_close(start.mean(0), torch.full((3,), 1 / 3), rtol=0, atol=0.04)


def test_k_means_finds_clusters_far_apart_whatever_their_units() -> None:
    labels = torch.arange(300) % 3
    centres = torch.tensor([[0.0, 0.0], [1e-3, 1e4], [-1e-3, 1e4]]).double()
    points = centres[labels] + torch.randn(300, 2).double() * torch.tensor([1e-5, 1e2])
    found = 0
    for seed in range(20):
        start = k_means(mixture(), points[:, :1], points[:, 1:], Generator().manual_seed(seed))
        counts = torch.nn.functional.one_hot(labels, 3).double().mT @ start
        found += int((counts.amax(-1) == 100).all() and (counts.amax(0) == 100).all())
    assert found >= 18


def test_k_means_of_many_rows_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixpyro.fitting.starts.SAMPLE_ROWS", 60)
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1, least_rows=70, most_rows=70, e_step_factor=1))
    labels = torch.arange(300) % 3
    points = 10.0 * torch.nn.functional.one_hot(labels, 3) + 0.1 * torch.randn(300, 3).double()
    found = 0
    for seed in range(20):
        start = k_means(mixture(), points[:, :1], points[:, 1:], Generator().manual_seed(seed))
        counts = torch.nn.functional.one_hot(labels, 3).double().mT @ start
        found += int((counts.amax(-1) == 100).all() and (counts.amax(0) == 100).all())
    assert found >= 18


@pytest.mark.parametrize("gate", [DirichletGate, ObjectDirichletGate])
def test_candidates_are_compared_on_a_sample_where_objects_are_exchangeable(
    gate: type[DirichletGate] | type[ObjectDirichletGate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixpyro.fitting.candidates.Candidates.MOST_ROWS", 80)
    seen = []

    def noted(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Tensor:
        seen.append(len(x))
        return random_subsets(mixture, x, y, generator)

    x, y, _ = lines(300, 2)
    results = [fit(MixtureOfExperts(gate(2), LinearExperts(2, 1)), x, y, starts=[noted], n_restarts=2) for _ in "ab"]
    assert set(seen) == {80 if gate is DirichletGate else 300}
    assert results[0].runs == results[1].runs
    whole = fit(MixtureOfExperts(gate(2), LinearExperts(2, 1)), x, y, starts=[noted], n_restarts=2, n_candidates=1)
    assert results[0].bound == pytest.approx(whole.bound, abs=1e-3)
    assert seen[-1] == 300


def test_spread_rows_are_drawn_by_squared_distance() -> None:
    """From the row at 0, that at 1 is drawn once where that at 3 is drawn nine times, and 0 itself never again."""
    points = torch.tensor([[0.0], [1.0], [3.0]])
    drawn = [spread_rows(points, 2, Generator().manual_seed(seed)).flatten().tolist() for seed in range(3000)]
    from_zero = [second for first, second in drawn if first == 0.0]
    assert from_zero.count(0.0) == 0
    assert from_zero.count(3.0) / len(from_zero) == pytest.approx(0.9, abs=0.03)


def test_a_start_of_the_users_own() -> None:
    def by_sign(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Tensor:
        return nn.functional.one_hot((y[:, 0] > 0).long(), 2).to(y.dtype)

    x, y, _ = lines(60, 2)
    result = fit(mixture(2), x, y, starts=[by_sign], n_restarts=1)
    given = fit(mixture(2), x, y, initial_responsibilities=by_sign(mixture(2), x, y, Generator()))
    assert result.trace == pytest.approx(given.trace, abs=1e-9)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("bad", [[], ["k_means"], k_means])
def test_starts_that_are_none_are_refused(bad: object) -> None:
    x, y, _ = lines(20, 2)
    with pytest.raises(TypeError, match=r"`starts` must be (a sequence of functions|functions, at least one)"):
        fit(mixture(2), x, y, starts=bad)  # type: ignore[arg-type]
