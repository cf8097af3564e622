"""Several observed sites, inner plates and masks of a program, by hand."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from mixpyro.diagnostics import loo, predictive_checks
from mixpyro.diagnostics.arviz_versions import arviz, datasets_of, group, has_data_trees
from tests.diagnostics.programs import (
    N,
    S,
    T,
    by_component,
    converted,
    log_prior,
    mixed,
    normal,
    numbers,
    of,
    some_rows,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto"),
    pytest.mark.usefixtures("without_type_checks"),
]


def test_sites_of_one_assignment_have_a_joint_log_likelihood() -> None:
    y = numbers(N, 2)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
            pyro.sample("y2", normal(-mean, 2.0), obs=y[:, 1])

    data = converted(likelihood, y)
    expected = mixed(by_component(y[:, 0]) + by_component(-y[:, 1], 2.0))
    assert list(group(data, "log_likelihood")) == ["y1+y2"]
    np.testing.assert_allclose(of(data, "log_likelihood", "y1+y2"), expected, atol=1e-10)
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), expected.sum(1) + log_prior().numpy(), rtol=1e-10)
    assert set(group(data, "observed_data")) == set(group(data, "posterior_predictive")) == {"y1", "y2"}
    np.testing.assert_array_equal(group(data, "observed_data")["y2"].values, y[:, 1])
    assert loo(data).observed.shape == (N, 2)  # type: ignore[union-attr]


def test_sites_without_a_common_variable_have_one_log_likelihood_each() -> None:
    y, other = numbers(N, 2), numbers(3)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
        with pyro.plate("groups", 3):
            pyro.sample("y2", normal(0.0, 2.0), obs=other)

    data = converted(likelihood, y)
    first, second = mixed(by_component(y[:, 0])), normal(0.0, 2.0).log_prob(other).expand(S, -1).numpy()
    np.testing.assert_allclose(of(data, "log_likelihood", "y1"), first, atol=1e-10)
    np.testing.assert_allclose(of(data, "log_likelihood", "y2"), second, atol=1e-10)
    assert group(data, "log_likelihood")["y2"].dims == ("chain", "draw", "groups")
    lp = first.sum(1) + second.sum(1) + log_prior().numpy()
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), lp, rtol=1e-10)
    with pytest.raises(ValueError, match="`site` must be one of y1, y2; got None"):
        loo(data)
    assert len(loo(data, site="y2").pointwise) == 3
    with pytest.raises(ValueError, match="`site` must be one of y1, y2; got None"):
        predictive_checks(data)
    assert predictive_checks(data, site="y2")["mean"].observed == pytest.approx(float(other.mean()))


def test_repeated_measures_of_an_object_count_together() -> None:
    y = numbers(T, N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with pyro.plate("times", T, dim=-2), plate:
            pyro.sample("y", normal(mean), obs=y)

    data = converted(likelihood, y.T)
    expected = mixed(sum(by_component(row) for row in y))  # type: ignore[arg-type]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.T)
    assert group(data, "posterior_predictive")["y"].dims == ("chain", "draw", "object", "times")


def test_sites_of_several_values_an_object() -> None:
    y = numbers(N, T)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(0.0).expand([T]).mask(True).to_event(1), obs=y)
            pyro.sample(
                "w", dist.MultivariateNormal(mean.unsqueeze(-1) * torch.ones(T).double(), torch.eye(T).double()), obs=y
            )

    data = converted(likelihood, y)
    np.testing.assert_allclose(of(data, "log_likelihood", "w"), mixed(sum(by_component(c) for c in y.T)), atol=1e-10)  # type: ignore[arg-type]
    np.testing.assert_allclose(of(data, "log_likelihood", "y")[0], normal(0.0).log_prob(y).sum(-1), atol=1e-10)
    assert group(data, "posterior_predictive")["w"].dims == ("chain", "draw", "object", "w_dim_0")
    assert "constant_data" not in datasets_of(data)


@pytest.mark.parametrize("how", ["handler", "distribution"])
def test_masked_rows_are_left_out(how: str) -> None:
    y, seen = numbers(N), some_rows()
    kept = np.flatnonzero(seen)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate, poutine.mask(mask=seen if how == "handler" else True):
            fn = normal(mean) if how == "handler" else normal(mean).mask(seen)
            pyro.sample("y", fn, obs=y)

    data = converted(likelihood, y)
    expected = mixed(by_component(y))[:, kept]
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), expected, atol=1e-10)
    np.testing.assert_array_equal(group(data, "log_likelihood")["object"].values, kept)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y[seen])
    assert group(data, "posterior_predictive")["y"].shape == (1, S, len(kept))
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), expected.sum(1) + log_prior().numpy(), rtol=1e-10)
    if not has_data_trees():
        assert arviz().loo(data).n_data_points == len(kept)


def test_an_object_with_one_of_two_outcomes_keeps_its_row() -> None:
    y, seen = numbers(N, 2), some_rows()

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", normal(mean), obs=y[:, 0])
            with poutine.mask(mask=seen):
                pyro.sample("y2", normal(mean), obs=y[:, 1])

    data = converted(likelihood, y)
    expected = mixed(by_component(y[:, 0]) + by_component(y[:, 1]) * seen[:, None])
    np.testing.assert_allclose(of(data, "log_likelihood", "y1+y2"), expected, atol=1e-10)
    observed = group(data, "observed_data")["y2"].values
    np.testing.assert_array_equal(np.isnan(observed), ~seen.numpy())
    np.testing.assert_array_equal(observed[seen], y[seen, 1])
    check = predictive_checks(data, site="y2")["mean"]
    assert check.observed == pytest.approx(float(y[seen, 1].mean()))
    assert np.isfinite(check.replicated).all()
