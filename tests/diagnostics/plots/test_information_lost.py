"""The plot of the information that is lost to unknown assignments."""

import numpy as np

from mixpyro import linear_response
from mixpyro.diagnostics.plots import plot_information_lost
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import remark

RESULT, X, Y = fitted("dirichlet", 2)


def test_bars_are_the_lost_shares_by_name() -> None:
    response = linear_response(RESULT, X, Y)
    ax = plot_information_lost(RESULT)
    expected = 1.0 - (response.mean_field.diagonal() / response.covariance.diagonal()).numpy()
    widths = np.array([bar.get_width() for bar in ax.patches])  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, expected, atol=1e-12)
    assert [text.get_text() for text in ax.get_yticklabels()] == list(response.names)
    np.testing.assert_allclose(np.asarray(ax.get_lines()[0].get_xdata()), response.missing_information)
    assert (expected >= 0.0).all() and expected.max() <= response.missing_information + 1e-9
    assert f"{response.missing_information:.0%}" in remark(ax)


def test_the_names_and_the_number_of_bars_are_the_callers() -> None:
    response = linear_response(RESULT, X, Y, feature_names=["dose"])
    ax = plot_information_lost(response, n_parameters=2)
    assert len(ax.patches) == 2
    assert f"{len(response.names) - 2} parameters that lose less are not shown" in remark(ax)
    assert any("dose" in name for name in response.names)
