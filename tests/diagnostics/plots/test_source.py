"""What plots take as their first arguments."""

import numpy as np
import pytest
import torch

from mixpyro import LinearExperts, MixtureOfExperts, to_arviz
from mixpyro.diagnostics.plots import plot_gate_curve, plot_khat
from mixpyro.diagnostics.plots.source import source_of
from tests.diagnostics.fits import fitted, gate
from tests.diagnostics.plots.example import DATA, RESULT, X, Y


def test_a_result_has_rows_names_and_draws_of_its_own() -> None:
    source = source_of(RESULT)
    np.testing.assert_array_equal(source.x, X)
    np.testing.assert_array_equal(source.y, Y)
    np.testing.assert_array_equal(source.shares, RESULT.responsibilities)
    assert (source.rows.x_names, source.rows.y_names, source.rows.gate_names) == (("x0",), ("y",), ("x0",))
    assert source.draws.of_gate() and source.draws.of_experts() and not source.draws.remark


def test_data_come_first_or_second_or_by_name() -> None:
    for source in (source_of(DATA, RESULT), source_of(RESULT, DATA), source_of(RESULT, data=DATA)):
        assert source.result is RESULT
        assert source.rows.x_names == ("dose",)
        assert source.draws.n_draws == 60


def test_rows_of_groups_have_what_their_group_has() -> None:
    from mixpyro import DirichletGate, fit

    groups = torch.arange(len(X)) // 2
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, X, Y, groups=groups, weights=torch.ones(len(X)).double(), n_restarts=1, progress=False)
    shares = source_of(result).shares
    assert shares is not None
    np.testing.assert_array_equal(shares, result.responsibilities[groups])
    np.testing.assert_array_equal(source_of(result, data=to_arviz(result, X, Y, n_draws=3)).shares, shares)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="`result` must be what `fit` returned; got ndarray"):
        plot_gate_curve(np.zeros(3))
    with pytest.raises(TypeError, match="`result` must be what `fit` returned; got NoneType"):
        plot_gate_curve(DATA)
    with pytest.raises(TypeError, match="`data` must be what `to_arviz` returned; got Tensor"):
        plot_gate_curve(RESULT, data=X)
    with pytest.raises(TypeError, match="`result` must be what `loo` or `fit` returned; got Tensor"):
        plot_khat(X)


def test_a_mixture_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="`data` must be given for a fit that keeps no rows"):
        plot_gate_curve(MixtureOfExperts(gate("dirichlet"), LinearExperts(2, 1)))


def test_data_of_another_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="`fitted` must be the fit that `data` were made from"):
        plot_gate_curve(fitted("sticks")[0], data=DATA)
