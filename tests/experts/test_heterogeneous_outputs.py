"""Several outcomes of unlike families with one assignment."""

from collections.abc import Callable

import pytest
import torch
from pyro.infer import Predictive, TraceEnum_ELBO
from torch import Tensor

from mixpyro import (
    DirichletGate,
    MixtureOfExperts,
    SoftmaxGate,
    StreamingFit,
    coefficients,
    fit,
    fit_minibatches,
    linear_response,
)
from mixpyro.experts import (
    Experts,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    PointMassExperts,
)
from mixpyro.experts.families import Binomial, Categorical, CensoredGaussian, Gaussian, Poisson
from mixpyro.fitting.table import checked_table
from mixpyro.intervals.densities import LogJoint
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, ExpertsContract, K, by_gradient
from tests.problems import inputs, lines, responsibilities


class TestHeterogeneousOutputs(ConjugateExpertsContract):
    """The contract, for a regression of two outputs beside a density of a third."""

    n_outputs = 3

    def make(self, n_components: int = K) -> HeterogeneousOutputs:
        return HeterogeneousOutputs([LinearExperts(n_components, N_FEATURES, 2), GaussianExperts(n_components, 1)])


class TestACountBesideAMeasurement(ExpertsContract):
    """The contract, for estimated experts beside conjugate ones."""

    n_outputs = 2

    def make(self, n_components: int = K) -> HeterogeneousOutputs:
        count = GLMExperts(n_components, N_FEATURES, Poisson(), prior_scale=2.0)
        return HeterogeneousOutputs([count, LinearExperts(n_components, N_FEATURES)])

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, y, r = super().data(n_objects)
        return x, torch.cat([y[:, :1].abs().round(), y[:, 1:]], 1), r


MAKERS: dict[str, Callable[[int], Experts]] = {
    "count": lambda k: GLMExperts(k, 1, Poisson(), prior_scale=2.0),
    "yes or no": lambda k: GLMExperts(k, 1, Binomial(), prior_scale=2.0),
    "line": lambda k: LinearExperts(k, 1),
    "density": lambda k: GaussianExperts(k, 1),
}


def two_classes(n_objects: int = 80) -> tuple[Tensor, dict[str, Tensor]]:
    """x [N, 1] and an outcome of each kind [N, 1]; every second row is of another class."""
    x = inputs(n_objects, 1)
    one = (torch.arange(n_objects) % 2 == 0).unsqueeze(-1)
    line = torch.where(one, 2.0 + x, -2.0 - x) + 0.5 * torch.randn(n_objects, 1).double()
    rate = torch.where(one, torch.exp(0.2 + 0.4 * x), torch.exp(1.2 - 0.2 * x))
    yes = torch.rand(n_objects, 1).double() < torch.where(one, 0.8, 0.3)
    return x, {"count": torch.poisson(rate), "yes or no": yes.double(), "line": line, "density": 0.5 * line - 1.0}


@pytest.mark.parametrize("kinds", [("count", "line"), ("yes or no", "count", "yes or no"), ("density", "line")])
def test_with_one_component_the_outcomes_are_fitted_each_by_itself(kinds: tuple[str, ...]) -> None:
    x, outcomes = two_classes()
    experts = HeterogeneousOutputs([MAKERS[kind](1) for kind in kinds])
    y = torch.cat([outcomes[kind] for kind in kinds], 1)
    together = fit(MixtureOfExperts(DirichletGate(1), experts), x, y, n_restarts=1, progress=False)
    alone = [
        fit(MixtureOfExperts(DirichletGate(1), MAKERS[kind](1)), x, outcomes[kind], n_restarts=1, progress=False)
        for kind in kinds
    ]
    assert together.bound == pytest.approx(sum(one.bound for one in alone), rel=1e-9)
    torch.testing.assert_close(together.mixture.predict(x), torch.cat([one.mixture.predict(x) for one in alone], 1))
    of_all = torch.stack([one.mixture.log_prob(x, outcomes[kind]) for one, kind in zip(alone, kinds, strict=True)])
    torch.testing.assert_close(together.mixture.log_prob(x, y), of_all.sum(0))
    assert experts.n_parameters == sum(one.mixture.experts.n_parameters for one in alone)


@pytest.mark.usefixtures("without_type_checks")
def test_two_banks_of_one_output_are_one_bank_of_two() -> None:
    """The same fit, number for number, and the same covariances by linear response, in closed form and by autograd."""
    x, y, _ = lines(60, 2, n_outputs=2, noise=0.8)
    prior = {"coefficient_precision": 0.3, "noise_shape": 2.0, "noise_rate": 0.5, "noise_per_output": True}
    whole = LinearExperts(2, 1, 2, **prior)  # type: ignore[arg-type]
    apart = HeterogeneousOutputs([LinearExperts(2, 1, **prior) for _ in range(2)])  # type: ignore[arg-type]
    start = responsibilities(60, 2)
    first, second = (
        fit(MixtureOfExperts(DirichletGate(2), e), x, y, initial_responsibilities=start, tolerance=1e-12)
        for e in (whole, apart)
    )
    assert first.bound == pytest.approx(second.bound, abs=1e-8)
    torch.testing.assert_close(second.responsibilities, first.responsibilities, rtol=0, atol=1e-6)
    assert apart.n_parameters == whole.n_parameters
    tables = [coefficients(result, x, y) for result in (first, second)]
    assert len(tables[1]) == len(tables[0]) == 13
    for name, row in tables[0].items():
        part, _, entry = name.partition(": ")
        component, output, *rest = entry.split(", ")
        renamed = name if part == "gate" else f"experts: member {output[-1]}, {', '.join([component, *rest])}"
        torch.testing.assert_close(tables[1][renamed][:2], row[:2], rtol=1e-4, atol=1e-6)
    quantiles = [r.mixture.quantile(x, torch.tensor([0.1, 0.6]).double()) for r in (first, second)]
    torch.testing.assert_close(quantiles[1], quantiles[0], rtol=1e-4, atol=1e-5)


def zero_inflated_and_a_line() -> HeterogeneousOutputs:
    """A count that is zero in one class, beside a measurement."""
    count = HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 1, Poisson())])
    return HeterogeneousOutputs([count, LinearExperts(2, 1)])


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (lambda: HeterogeneousOutputs([MAKERS["count"](2), MAKERS["line"](2)]), ("count", "line")),
        (zero_inflated_and_a_line, ("count", "line")),
        (lambda: HeterogeneousOutputs([GLMExperts(2, 0, Categorical(2)), GLMExperts(2, 0, Gaussian())]), None),
    ],
)
@pytest.mark.usefixtures("without_type_checks")
def test_bound_elbo_and_log_joint_agree(
    make: Callable[[], HeterogeneousOutputs], kinds: tuple[str, ...] | None
) -> None:
    """Pyro's ELBO of estimated members is the bound; the density at draws is the mixture's, of nested banks too."""
    x, outcomes = two_classes(50)
    y = torch.cat([outcomes[kind] for kind in kinds or ("yes or no", "line")], 1)
    mixture: MixtureOfExperts = MixtureOfExperts(SoftmaxGate(2, 0), make())
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=2, progress=False)
    response = linear_response(result, x, y, gate_x=x[:, :0])
    mixture = response.mixture
    joint = LogJoint(mixture, checked_table(mixture, x, y, x[:, :0], None))
    assert len(set(response.names)) == len(response.names) == joint.parameters.size
    theta = response.estimates.unsqueeze(0)
    if not any(isinstance(part, LinearExperts) for part in mixture.modules()):
        elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, x, y, gate_x=x[:, :0])
        assert elbo == pytest.approx(mixture.bound(x, y, gate_x=x[:, :0]).item(), abs=1e-9)
        torch.testing.assert_close(joint.log_likelihood(theta)[0], mixture.log_prob(x, y, gate_x=x[:, :0]))
        return
    values = joint.parameters.values(theta)
    mean = torch.einsum("ne,kpe->nkp", torch.cat([torch.ones_like(x), x], 1), values["experts.1.coefficients"][0])
    normal = torch.distributions.Normal(mean[..., 0], values["experts.1.precision"][0].mT.rsqrt())
    of_count = mixture.experts.members[0].expected_log_likelihood(x, y[:, :1])
    log_pi = mixture.gate.expected_log_weights(x[:, :0])
    expected = (log_pi + of_count + normal.log_prob(y[:, 1:])).logsumexp(-1)
    torch.testing.assert_close(joint.log_likelihood(theta)[0], expected)


@pytest.mark.usefixtures("without_type_checks")
def test_draws_have_the_predicted_mean_and_are_of_one_site() -> None:
    x, outcomes = two_classes(12)
    y = torch.cat([outcomes["count"], outcomes["line"]], 1)
    mixture = MixtureOfExperts(DirichletGate(2), HeterogeneousOutputs([MAKERS["count"](2), MAKERS["line"](2)]))
    r = responsibilities(12, 2)
    mixture.gate.update(mixture.gate.statistics(x, r))
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    mixture.experts.maximise(x, y, r, by_gradient=by_gradient)
    draws = Predictive(mixture.model, guide=lambda x, y=None: mixture.guide(x, y), num_samples=200)(x)["experts.y"]
    assert ((draws.mean(0) - mixture.predict(x)).abs() < 5 * draws.std(0) / 200**0.5).all()
    assert bool((draws[..., 0] == draws[..., 0].round()).all())
    new = mixture.predictive(x).sample(torch.Size([400]))
    assert ((new.mean(0) - mixture.predict(x)).abs() < 5 * new.std(0) / 400**0.5).all()
    with pytest.raises(TypeError, match="must have outputs with a known cumulative"):
        answers = HeterogeneousOutputs([GLMExperts(2, 0, Categorical(3)), MAKERS["line"](2)])
        MixtureOfExperts(DirichletGate(2), answers).quantile(x, torch.tensor([0.5]).double())


@pytest.mark.usefixtures("without_type_checks")
def test_streams_and_minibatches_learn_all_outcomes() -> None:
    x, outcomes = two_classes(300)
    y = torch.cat([outcomes["count"], outcomes["line"]], 1)

    def make() -> MixtureOfExperts:
        return MixtureOfExperts(DirichletGate(2), HeterogeneousOutputs([MAKERS["count"](2), MAKERS["line"](2)]))

    whole = fit(make(), x, y, n_restarts=2, progress=False).mixture
    stream = StreamingFit(make(), n_restarts=2)
    for rows in torch.arange(300).split(100):
        stream.partial_fit(x[rows], y[rows])
    batches = fit_minibatches(make(), x, y, batch_size=100, n_epochs=3, n_restarts=2, progress=False).mixture
    for other in (stream.mixture, batches):
        assert float((other.predict(x) - whole.predict(x)).abs().mean()) < 0.25


@pytest.mark.usefixtures("without_type_checks")
def test_one_outcome_tells_the_classes_apart_for_the_other() -> None:
    """By the count alone they overlap; with the line, its rates are found."""
    x, outcomes = two_classes(400)
    y = torch.cat([outcomes["count"], outcomes["line"]], 1)
    result = fit(
        MixtureOfExperts(DirichletGate(2), HeterogeneousOutputs([GLMExperts(2, 1, Poisson()), LinearExperts(2, 1)])),
        x,
        y,
        n_restarts=2,
        n_candidates=1,
        progress=False,
    )
    count, _ = result.mixture.experts.members
    low, high = sorted(count.coefficients[:, 0].tolist())
    assert torch.tensor(low).allclose(torch.tensor([0.2, 0.4]), atol=0.25)
    assert torch.tensor(high).allclose(torch.tensor([1.2, -0.2]), atol=0.15)


@pytest.mark.usefixtures("without_type_checks")
def test_rows_of_groups_share_one_assignment_of_all_outcomes() -> None:
    """Also limits of outcomes, which are infinite, in starts that cluster the lines of groups."""
    x, outcomes = two_classes(60)
    # Two rows of a class, one after the other.
    groups = torch.arange(60).remainder(2) + 2 * torch.arange(60).div(4, rounding_mode="floor")
    limits = torch.cat([outcomes["line"].clamp_max(2.5), outcomes["line"].where(outcomes["line"] < 2.5, torch.inf)], 1)
    y = torch.cat([outcomes["count"], limits], 1)
    experts = HeterogeneousOutputs([MAKERS["count"](2), GLMExperts(2, 1, CensoredGaussian())])
    mixture, gate_x = MixtureOfExperts(SoftmaxGate(2, 0), experts), x[:, :0]
    result = fit(mixture, x, y, gate_x=gate_x, groups=groups, n_restarts=3, n_candidates=1, progress=False)
    of_rows = experts.expected_log_likelihood(x, y)
    of_groups = torch.zeros(30, 2).double().index_add_(0, groups, of_rows)
    joint = of_groups + mixture.gate.expected_log_weights(gate_x[:1])
    assert result.bound == pytest.approx((joint.logsumexp(-1).sum() - mixture.kl_divergence()).item(), abs=1e-8)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    loss = elbo.loss(mixture.model, mixture.guide, x, y, gate_x=gate_x, groups=groups)
    assert -loss == pytest.approx(result.bound, abs=1e-8)


@pytest.mark.usefixtures("bad_arguments")
def test_bad_members_and_outcomes_are_refused() -> None:
    line = LinearExperts(2, 1)
    for members, error, message in (
        ([], ValueError, "`members` must be one bank or more, none of them twice; got 0"),
        ([line, line], ValueError, "none of them twice; got 2"),
        ([line, LinearExperts(3, 1)], ValueError, r"`members` must agree in `n_components`.*\[2, 3\].*Heterogeneous"),
        ([line, DirichletGate(2)], TypeError, r"must be a list of mixpyro Experts; got \['LinearExperts', 'Diri"),
        (line, TypeError, "must be a list of mixpyro Experts; got LinearExperts"),
    ):
        with pytest.raises(error, match=message):
            HeterogeneousOutputs(members)  # type: ignore[arg-type]
    experts, x = HeterogeneousOutputs([MAKERS["count"](2), MAKERS["line"](2)]), inputs(5, 1)
    with pytest.raises(ValueError, match="`y` must hold whole numbers"):
        experts.check_data(x, torch.full((5, 2), 0.5).double())
    mixed = HeterogeneousOutputs([MAKERS["count"](1), MAKERS["line"](1)])
    with pytest.raises(ValueError, match="must all be densities, or all probabilities"):
        HeterogeneousExperts([mixed, LinearExperts(1, 1, 2)])


@pytest.mark.usefixtures("bad_arguments")
def test_rows_without_an_axis_of_columns_are_refused_by_the_member_that_reads_them() -> None:
    bank = HeterogeneousOutputs([GaussianExperts(K, 1), LinearExperts(K, N_FEATURES)])
    with pytest.raises(ValueError, match=r"`x` must have shape"):
        bank.expected_log_likelihood(torch.zeros(5).double(), torch.zeros(5, 2).double())
    with pytest.raises(ValueError, match=r"`x` must have shape"):
        bank.model(torch.tensor(0.0).double())
    of_gaussians = HeterogeneousOutputs([GaussianExperts(K, 1), GaussianExperts(K, 2)])
    assert len(of_gaussians.model(torch.zeros(5).double())) == 2
