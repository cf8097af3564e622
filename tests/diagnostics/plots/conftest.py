"""Plots are drawn without a display, and figures are closed after each test."""

from collections.abc import Iterator

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close all figures after the test."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
