"""Offsets and numbers of trials."""

import numpy as np
import pandas as pd
import pytest

from mixpyro.experts.families import Binomial, Poisson
from mixpyro.frontends.exposure import Exposure, check_exposure

DATA = pd.DataFrame({"time": [1.5, 2.0, 7.3], "log time": np.log([1.5, 2.0, 7.3]), "n": [3, 4, 5]})


@pytest.mark.parametrize("text", ["log(time)", "np.log(time)"])
def test_the_exposure_of_a_logarithm_is_its_argument_to_the_last_digit(text: str) -> None:
    exposure, values = Exposure.of("offset", text, DATA, {"np": np})
    assert values.tolist() == DATA["time"].tolist()
    assert exposure.values(DATA.iloc[[2]]).tolist() == [7.3]


@pytest.mark.parametrize("text", ["log time", "log(time) + 0 * n", "np.log(time) + np.log(1)"])
def test_any_other_offset_is_on_the_scale_of_the_predictor(text: str) -> None:
    _, values = Exposure.of("offset", text, DATA, {"np": np})
    np.testing.assert_allclose(values, DATA["time"], rtol=1e-15)


def test_a_column_that_is_called_as_a_logarithm_is_that_column() -> None:
    data = DATA.rename(columns={"log time": "log(time)"}).drop(columns="time")
    exposure, values = Exposure.of("offset", "log(time)", data, {})
    np.testing.assert_allclose(values, DATA["time"], rtol=1e-15)
    np.testing.assert_allclose(exposure.values(data), DATA["time"], rtol=1e-15)


@pytest.mark.parametrize("text", ["n", "n + 0", "`n`"])
def test_trials_are_numbers_as_they_are(text: str) -> None:
    assert Exposure.of("trials", text, DATA, {})[1].tolist() == [3.0, 4.0, 5.0]


def test_refuses_what_is_not_above_zero_with_its_row() -> None:
    with pytest.raises(ValueError, match=r"`trials` is 'n - 4', .* above zero; got -1 in row 0"):
        Exposure.of("trials", "n - 4", DATA, {})
    with pytest.raises(ValueError, match=r"`offset` is 'log\(n - 4\)', whose exposure must be"):
        Exposure.of("offset", "log(n - 4)", DATA, {})


def test_families_have_offsets_or_trials_or_none() -> None:
    check_exposure("offset", Poisson())
    check_exposure("trials", Binomial())
    with pytest.raises(ValueError, match=r"`offset` must be None .* got family gaussian. Subtract it on the left"):
        check_exposure("offset", None)
    with pytest.raises(ValueError, match="`trials` must be None but for the families Binomial, Multinomial"):
        check_exposure("trials", Poisson())
