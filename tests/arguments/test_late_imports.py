"""Late imports leave the warnings filters, and give every thread the whole module."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixpyro.arguments.late_imports import imported

SLOW = """
import time, warnings
warnings.filterwarnings("ignore", message="of a slow module")
time.sleep(0.2)
last_line = True
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that takes a while to import and adds a filter of warnings."""
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    return "slow_to_import"


def test_every_thread_gets_the_whole_module(slow_module: str) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda name: imported(name).last_line, [slow_module] * 4))
    assert all(found)
    assert list(warnings.filters) == before


def test_a_package_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "formulaic", None)  # as Python marks a module that must not be found
    with pytest.raises(ImportError, match="formulaic"):
        imported("formulaic")
