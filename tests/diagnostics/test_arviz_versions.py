"""Both versions of ArviZ: containers, files, importance weights and results of leave-one-out."""

from pathlib import Path

import numpy as np
import pytest

from mixpyro.diagnostics.arviz_versions import (
    ArvizData,
    arviz,
    container,
    datasets_of,
    from_netcdf,
    group,
    has_data_trees,
    psislw,
)


def small() -> ArvizData:
    """Return two groups, with labels along one axis."""
    values = np.arange(12.0).reshape(1, 6, 2)
    return container(
        {
            "posterior": {"gate.weights": (("chain", "draw", "component"), values)},
            "observed_data": {"y": (("object",), np.zeros(3))},
        },
        {"component": np.array(["left", "right"])},
        {"inference_library": "mixpyro"},
    )


def test_axes_have_names_and_coordinates() -> None:
    weights = small()["posterior"]["gate.weights"]
    assert weights.dims == ("chain", "draw", "component")
    assert weights.coords["component"].values.tolist() == ["left", "right"]
    assert weights.coords["draw"].values.tolist() == list(range(6))


def test_the_container_is_that_of_the_installed_version() -> None:
    assert type(small()).__name__ == ("DataTree" if has_data_trees() else "InferenceData")
    assert arviz().summary(small(), kind="stats").shape[0] == 2


def test_netcdf_round_trip(tmp_path: Path) -> None:
    before = small()
    before.to_netcdf(str(tmp_path / "draws.nc"))
    after = from_netcdf(tmp_path / "draws.nc")
    assert list(datasets_of(after)) == list(datasets_of(before))
    for name, dataset in datasets_of(before).items():
        assert dataset.identical(group(after, name))


def test_a_missing_group_is_named() -> None:
    with pytest.raises(ValueError, match="`data` must have a group 'log_likelihood'; got posterior, observed_data"):
        group(small(), "log_likelihood")


def test_larger_ratios_get_larger_normalised_weights() -> None:
    log_ratios = np.random.default_rng(0).normal(size=(2, 500))
    log_weights, pareto_k = psislw(log_ratios)
    np.testing.assert_allclose(np.exp(log_weights).sum(-1), 1.0)
    for weights, ratios in zip(log_weights, log_ratios, strict=True):
        assert weights[ratios.argmax()] > weights[ratios.argmin()]
    assert pareto_k.shape == (2,)
