"""Fits of rows in groups of one component."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    Groups,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
    criteria,
    fit,
    fit_minibatches,
    load,
    save,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.starts import DEFAULT_STARTS, k_means, random_assignments, random_subsets
from mixpyro.gates import Gate
from tests.conftest import DATA

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore:only one of", "ignore:the best run has not", "ignore:the bound still"),
    pytest.mark.filterwarnings("ignore:.*noise of"),
]
K, G = 2, 30
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "softmax": lambda: SoftmaxGate(K, 1, prior_scale=3.0),
    "sticks": lambda: StickBreakingGate(K),
    "object": lambda: ObjectDirichletGate(K, concentration=2.0),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, 1),
    "gaussian": lambda: GaussianExperts(K, 1),
    "glm": lambda: GLMExperts(K, 1, Gaussian(), prior_scale=5.0),
    "heterogeneous": lambda: HeterogeneousExperts([LinearExperts(1, 1), GaussianExperts(1, 1)]),
}


def grouped_lines(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Two lines that cross, and groups of 1 to 6 rows on one of them: x, y, ids, z and what a gate reads of rows."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 7, (G,), generator=generator)
    ids = torch.arange(G).repeat_interleave(sizes)
    x = torch.randn(len(ids), 1, generator=generator, dtype=torch.float64)
    u = torch.randn(G, 1, generator=generator, dtype=torch.float64)
    z = (u[:, 0] + 0.5 * torch.randn(G, generator=generator) > 0).long()
    slopes = torch.tensor([1.0, -1.0], dtype=torch.float64)
    y = slopes[z[ids]] * x[:, 0] + 0.5 * torch.randn(len(ids), generator=generator, dtype=torch.float64)
    return x, y, ids, z, u[ids]


def mixture(gate: str = "dirichlet", experts: str = "linear") -> MixtureOfExperts:
    """A new mixture."""
    return MixtureOfExperts(GATES[gate](), EXPERTS[experts]())


def fitted(gate: str = "dirichlet", experts: str = "linear", **options: Any) -> tuple[FitResult, Tensor, Tensor]:
    """A fit of the grouped lines, with its data."""
    x, y, ids, _, u = grouped_lines()
    given = {"groups": ids, "gate_x": u, "n_restarts": 4, "max_iterations": 60, "progress": False, **options}
    return fit(mixture(gate, experts), x, y, **given), x, y


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("experts", EXPERTS)
def test_groups_of_one_row_are_rows(gate: str, experts: str) -> None:
    x, y, ids, _, u = grouped_lines()
    options = {"gate_x": u, "n_restarts": 3, "max_iterations": 30, "progress": False}
    alone = fit(mixture(gate, experts), x, y, **options)  # type: ignore[arg-type]
    grouped = fit(mixture(gate, experts), x, y, groups=range(len(x)), **options)  # type: ignore[arg-type]
    assert grouped.trace == alone.trace
    assert torch.equal(grouped.responsibilities, alone.responsibilities)
    assert criteria(grouped, x, y, gate_x=u) == criteria(alone, x, y, gate_x=u)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("experts", EXPERTS)
def test_the_bound_is_a_loop_over_groups(gate: str, experts: str) -> None:
    result, x, y = fitted(gate, experts)
    found, _, ids, _, u = result.mixture, *grouped_lines()[1:]
    rows = found.experts.expected_log_likelihood(x, y)
    total, shares = 0.0, []
    for g in range(G):
        objects = torch.tensor([g]) if gate == "object" else None
        prior = found.gate.expected_log_weights(u[ids == g][:1], objects=objects)[0]
        joint = prior + rows[ids == g].sum(0)
        total += float(joint.logsumexp(0).detach())
        shares.append(joint.softmax(0).detach())
    assert result.bound == pytest.approx(total - float(found.kl_divergence()), abs=1e-8)
    torch.testing.assert_close(result.responsibilities, torch.stack(shares), rtol=0, atol=1e-8)
    all_objects = slice(None) if gate == "object" else None
    assert float(found.bound(x, y, gate_x=u, groups=ids, objects=all_objects)) == pytest.approx(result.bound, abs=1e-8)


@pytest.mark.parametrize("gate", GATES)
def test_the_order_of_rows_does_not_matter(gate: str) -> None:
    result, x, y = fitted(gate, n_restarts=6, max_iterations=1000)
    _, _, ids, _, u = grouped_lines()
    order = torch.randperm(len(x))
    names = [f"patient {number}" for number in ids[order].tolist()]
    other = fit(mixture(gate), x[order], y[order], gate_x=u[order], groups=names, n_restarts=6, progress=False)
    assert other.bound == pytest.approx(result.bound, abs=1e-4)
    assert other.groups is not None and other.groups.ids[0] == names[0]
    shares = torch.empty_like(result.responsibilities)
    shares[torch.tensor([int(str(name).split()[1]) for name in other.groups.ids])] = other.responsibilities
    same = [(shares[:, columns] - result.responsibilities).abs().max() < 0.01 for columns in ([0, 1], [1, 0])]
    assert any(same)


def test_groups_find_what_rows_alone_do_not() -> None:
    result, x, y = fitted()
    z = grouped_lines()[3]
    known = result.responsibilities.argmax(-1)
    assert max(float((known == z).double().mean()), float((known != z).double().mean())) > 0.8
    groups, u = Groups.of(grouped_lines()[2]), grouped_lines()[4]
    means = result.mixture.predict(x, gate_x=u, responsibilities=groups.spread(result.responsibilities))
    alone = result.mixture.predict(x, gate_x=u)
    assert (y - means[:, 0]).square().mean() < 0.5 * (y - alone[:, 0]).square().mean()


def test_a_weight_counts_whole_groups() -> None:
    x, y, ids, _, _ = grouped_lines()
    counts = torch.tensor([1, 3, 0])[ids % 3]
    rows = torch.cat([torch.arange(len(x))[counts > copy] for copy in range(3)])
    copies = torch.cat([ids[counts > copy] + G * copy for copy in range(3)])
    start = torch.rand(G, K).double()
    options = {"max_iterations": 40, "tolerance": 0.0, "progress": False}
    weighted = fit(
        mixture(),
        x,
        y,
        groups=ids,
        weights=counts.double(),
        initial_responsibilities=start,
        **options,  # type: ignore[arg-type]
    )
    repeated = fit(
        mixture(), x[rows], y[rows], groups=copies,
        initial_responsibilities=start[torch.tensor(Groups.of(copies).ids) % G], **options,  # type: ignore[arg-type]
    )  # fmt: skip
    assert weighted.bound == pytest.approx(repeated.bound, abs=1e-9)
    assert len(weighted.responsibilities) == G and weighted.counts.sum() == repeated.counts.sum()
    assert criteria(weighted, x, y).bic == pytest.approx(criteria(repeated, x[rows], y[rows]).bic, abs=1e-8)


def test_criteria_count_groups() -> None:
    x, y, ids, _, u = grouped_lines()
    result = fit(
        MixtureOfExperts(SoftmaxGate(K, 1), GLMExperts(K, 1, Gaussian())), x, y, groups=ids, gate_x=u, progress=False
    )
    found = criteria(result, x, y, gate_x=u)
    assert found.log_likelihood == pytest.approx(result.bound, abs=1e-6)
    assert found.bic == pytest.approx(found.n_parameters * math.log(G) - 2.0 * found.log_likelihood, abs=1e-9)


@pytest.mark.parametrize("start", [random_subsets, k_means, random_assignments], ids=lambda start: start.__name__)
def test_every_kind_of_start_finds_the_optimum(start: Callable[..., Tensor]) -> None:
    best = fitted(n_restarts=20, max_iterations=1000)[0].bound
    result = fitted(starts=[start], n_restarts=4, max_iterations=1000)[0]
    assert result.bound == pytest.approx(best, abs=1e-3)


def test_a_start_of_rows_is_averaged_over_each_group() -> None:
    def own(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(len(x), K, generator=generator).double()

    assert own not in DEFAULT_STARTS
    assert len(fitted(starts=[own])[0].responsibilities) == G


def test_poisson_lines_of_groups_have_the_likelihood_of_flexmix() -> None:
    with (DATA / "npreg.csv").open() as file:
        rows = [line.replace('"', "").split(",") for line in file.read().splitlines()[1:]]
    x, y = (torch.tensor([float(row[column]) for row in rows]).double() for column in (0, 2))
    experts = GLMExperts(2, 1, Poisson())
    model = MixtureOfExperts(SoftmaxGate(2, 0), experts)
    empty = x.new_zeros(len(x), 0)
    result = fit(model, x.unsqueeze(1), y, gate_x=empty, groups=[row[4] for row in rows], n_restarts=3, progress=False)
    # R: stepFlexmix(yp ~ x | id2, data = NPreg, k = 2, model = FLXMRglm(family = "poisson"), nrep = 20), flexmix 2.3.
    assert result.bound == pytest.approx(-420.08138, abs=1e-4)


def test_known_components_of_rows_are_those_of_their_groups() -> None:
    x, y, ids, z, _ = grouped_lines()
    first = Groups.of(ids).first_rows[:4]
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[first] = True
    result = fitted(observed=z[ids], mask=mask)[0]
    assert torch.equal(result.responsibilities[:4].argmax(-1), z[:4]) and result.responsibilities[:4].max() == 1.0
    wrong = z[ids].clone()
    wrong[1] = 1 - wrong[0]
    assert ids[0] == ids[1]
    with pytest.raises(ValueError, match=r"`observed` must have one component for a group; got \[0, 1\] in group 0"):
        fitted(observed=wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("gate_x", "`gate_x` must be the same in all rows of a group; .* SoftmaxGate weighs a whole group"),
        ("weights", "`weights` must be the same in all rows of a group"),
        ("groups", "`groups` must have an id for each of .* rows; got 3"),
        ("initial_responsibilities", r"`initial_responsibilities` must have shape \[30, 2\]"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed: str, message: str) -> None:
    x, _, _, _, _ = grouped_lines()
    values: dict[str, Any] = {
        "gate_x": x,
        "weights": 1.0 + x[:, 0].square(),
        "groups": [1, 2, 3],
        "initial_responsibilities": torch.rand(len(x), K).double(),
    }
    with pytest.raises(ValueError, match=message):
        fitted("softmax", **{changed: values[changed]})


def test_a_mixture_of_groups_asks_for_groups(tmp_path: Path) -> None:
    result, x, y = fitted()
    path = tmp_path / "mixture.pt"
    save(result.mixture, path)
    for found in (result.mixture, load(path)):
        with pytest.raises(ValueError, match="`groups` must be given, as in the fit"):
            found.assign(x, y, gate_x=grouped_lines()[4])
        again = found.assign(x, y, gate_x=grouped_lines()[4], groups=grouped_lines()[2])
        torch.testing.assert_close(again.responsibilities, result.responsibilities, rtol=0, atol=1e-12)


def test_new_groups_are_scored_from_their_rows() -> None:
    result, x, y = fitted()
    x, y, ids, z, u = grouped_lines(seed=1)
    found = result.mixture.assign(x, y, gate_x=u, groups=ids)
    agreement = float((found.responsibilities.argmax(-1) == z).double().mean())
    assert max(agreement, 1.0 - agreement) > 0.8
    first = ids == 0
    alone = result.mixture.assign(x[first], y[first], gate_x=u[first], groups=ids[first])
    torch.testing.assert_close(alone.responsibilities[0], found.responsibilities[0], rtol=0, atol=1e-12)


def test_a_checkpoint_of_other_groups_is_refused(tmp_path: Path) -> None:
    x, y, ids, _, _ = grouped_lines()
    path = tmp_path / "fit.pt"
    fit(mixture(), x, y, groups=ids, n_restarts=2, checkpoint=path, progress=False)
    again = fit(mixture(), x, y, groups=ids, n_restarts=2, checkpoint=path, progress=False)
    assert again.converged
    with pytest.raises(ValueError, match="checkpoint"):
        fit(mixture(), x, y, groups=ids // 2, n_restarts=2, checkpoint=path, progress=False)


@pytest.mark.parametrize("experts", ["linear", "gaussian"])
def test_minibatches_of_whole_groups_come_near_the_fit(experts: str) -> None:
    whole = fitted(experts=experts, max_iterations=1000)[0]
    x, y, ids, _, u = grouped_lines()
    model = mixture(experts=experts)
    result = fit_minibatches(
        model, x, y, groups=ids, gate_x=u, batch_size=40, n_epochs=20, n_restarts=4, progress=False
    )
    assert len(result.responsibilities) == G
    assert whole.bound - 1.0 < result.bound <= whole.bound + 1e-6


def test_a_stream_of_groups_counts_groups() -> None:
    whole = fitted(max_iterations=1000)[0]
    x, y, ids, _, u = grouped_lines()
    model = mixture()
    stream = StreamingFit(model, n_objects=G)
    for _ in range(20):
        for batch in (ids < 15, ids >= 15):
            stream.partial_fit(x[batch], y[batch], gate_x=u[batch], groups=ids[batch])
    assert stream.n_seen == 20 * G
    # The default prior is that of the first batch.
    assert float(model.bound(x, y, gate_x=u, groups=ids)) == pytest.approx(whole.bound, abs=1.0)
    with pytest.raises(ValueError, match="`groups` must be given, as in the fit"):
        stream.partial_fit(x, y, gate_x=u)


def test_small_blocks_give_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from mixpyro.numerics import blocks

    whole = fitted()[0]
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=30, least_rows=1))
    parted = fitted()[0]
    assert parted.bound == pytest.approx(whole.bound, abs=1e-9)
    torch.testing.assert_close(parted.responsibilities, whole.responsibilities, rtol=0, atol=1e-9)


def test_float32_has_groups_too() -> None:
    x, y, ids, _, _ = grouped_lines()
    result = fit(mixture(), x.float(), y.float(), groups=ids, n_restarts=3, progress=False)
    assert result.responsibilities.dtype == torch.float32
    double = fit(mixture(), x, y, groups=ids, n_restarts=3, progress=False)
    assert result.bound == pytest.approx(double.bound, rel=1e-5)
