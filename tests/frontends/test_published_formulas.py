"""Fits by formulas beside those of other programs that were published."""

from pathlib import Path

import pandas as pd
import pytest

from mixpyro import (
    fit_formula,
)
from mixpyro.experts.families import Gaussian

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]
DATA = Path(__file__).parents[1] / "data"


def read(name: str) -> pd.DataFrame:
    """A table of the tests."""
    return pd.read_csv(DATA / name)


def test_patents_have_the_likelihood_and_bic_of_flexmix() -> None:
    result = fit_formula(
        "Patents ~ lgRD", read("patent.csv"), gate="~ RDS", family="poisson", k=[1, 3], n_restarts=2, progress=False
    )
    table = result.candidates
    assert table is not None
    assert table["chosen"].tolist() == [False, True]
    assert table.loc[3, "log_likelihood"] == pytest.approx(-197.675, abs=1e-3)
    assert table["bic"].tolist() == pytest.approx([641.88, 437.835], abs=5e-3)
    slopes = result.coefficients().xs("lgRD", level="parameter")["estimate"]
    assert sorted(slopes) == pytest.approx([0.672, 0.880, 1.589], abs=2e-3)


def test_beta_blockers_in_three_kinds_of_centres_have_the_likelihood_of_flexmix() -> None:
    result = fit_formula(
        "Deaths ~ Treatment",
        read("betablocker.csv"),
        family="binomial",
        trials="Total",
        groups="Center",
        shared=["Treatment"],
        k=3,
        n_restarts=2,
        progress=False,
    )
    assert result.bound == pytest.approx(-159.36, abs=5e-3)
    effect = result.coefficients().loc[("experts", "all components", "Treatment[T.Treated]")]
    assert effect["estimate"] == pytest.approx(-0.26, abs=5e-3)
    assert len(result.labels) == 44
    assert (result.labels.groupby(read("betablocker.csv")["Center"]).nunique() == 1).all()


def test_a_quadratic_has_no_lower_likelihood_than_flexmix() -> None:
    result = fit_formula("yn ~ x + I(x**2)", read("npreg.csv"), family=Gaussian(), k=2, n_restarts=2, progress=False)
    assert result.bound == pytest.approx(-642.53, abs=0.02)
    assert result.candidates is not None
    assert result.candidates["n_parameters"].item() == 9


def test_sleep_study_has_the_mean_reaction_of_lme4() -> None:
    result = fit_formula(
        "Reaction ~ Days", read("sleepstudy.csv"), random="~ 1 + Days", groups="Subject", k=1, progress=False
    )
    estimates = result.coefficients()["estimate"].droplevel([0, 1])
    assert estimates["intercept"] == pytest.approx(251.405, rel=1e-3)
    assert estimates["Days"] == pytest.approx(10.467, rel=1e-3)
