"""Columns that a gate with a prior reads in units of their spread."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixpyro import fit_formula
from mixpyro.frontends.gate_scales import scales_of

YEARS = pd.DataFrame({"year": [1990.0, 2000.0, 2020.0]})


def test_columns_of_unit_order_and_categories_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    unit = pd.DataFrame({"w": rng.normal(size=50), "b": np.eye(50)[0], "one": np.ones(50), "all": 3.0})
    assert scales_of(unit) == {}


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    repeated = pd.DataFrame({"year": [1990.0, 2000.0, 2000.0]})
    assert scales_of(YEARS, np.array([1.0, 2.0, 0.0]))["year"] == pytest.approx(scales_of(repeated)["year"])


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("unit", "origin"), [(1.0, 2000.0), (1000.0, -1e5), (0.001, 0.0)])
def test_units_and_origin_of_what_the_gate_reads_change_nothing(unit: float, origin: float) -> None:
    rng = np.random.default_rng(1)
    w, x = rng.uniform(-30.0, 30.0, 50), rng.normal(size=50)
    y = np.where(rng.uniform(size=50) < 1.0 / (1.0 + np.exp(-w / 3.0)), 1.0 + x, -1.0 - x) + 0.2 * rng.normal(size=50)
    options: dict[str, Any] = {"gate": "~ w", "k": 2, "n_restarts": 1, "progress": False}
    plain = fit_formula("y ~ x", {"x": x, "y": y, "w": w}, **options)
    other = fit_formula("y ~ x", {"x": x, "y": y, "w": unit * w + origin}, **options)
    assert other.bound == pytest.approx(plain.bound, abs=1e-6)
    new = {"x": [0.0, 0.0], "w": [-20.0, 20.0]}
    moved = {"x": [0.0, 0.0], "w": [unit * value + origin for value in (-20.0, 20.0)]}
    np.testing.assert_allclose(other.gate_weights(moved), plain.gate_weights(new), atol=1e-5)
    assert abs(plain.gate_weights(new).to_numpy()[0] - plain.gate_weights(new).to_numpy()[1]).min() > 0.7
    assert "gate reads w from the mean, in standard deviations" in other.summary()
    assert ("gate", "component 1 against 0", "scale(w)") in other.coefficients().index
