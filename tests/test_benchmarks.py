"""Every benchmark runs at a tiny size; no test depends on how long something takes."""

import textwrap
from pathlib import Path

import pytest
import torch

from mixpyro import fit, linear_response
from mixpyro.fitting import pace
from tests.benchmarks import acceleration, calibration, coverage, intervals, programs, structure
from tests.benchmarks.calibration_models import MODELS
from tests.benchmarks.simulated import SETTINGS, Case, models, two_lines
from tests.benchmarks.speed.__main__ import measured
from tests.benchmarks.speed.harness import Row, as_table, fastest
from tests.benchmarks.uniformity import (
    N_POINTS,
    band,
    chi_square,
    chi_square_limit,
    difference_limit,
    drawn,
    largest_difference,
)


def test_speed_benchmarks_run() -> None:
    for row in measured([], tiny=True):
        assert row.seconds > 0
        assert row.seconds_beside > 0


def test_sizes_are_arguments() -> None:
    (row,) = measured(["restarts"], tiny=True, given={"n_objects": 123, "n_components": 2})
    assert row.size == "N=123, d=10, K=2"


def test_no_benchmark_starts_after_the_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(["restarts", "gaussian"], tiny=True, seconds=-1.0) == []
    assert "restarts: not run, because -1 seconds have passed" in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "ratio", "reached"), [("<= 1.5", 2.0, False), (">= 0.5", 0.5, True)])
def test_a_row_tells_whether_its_target_is_reached(wanted: str, ratio: float, reached: bool) -> None:
    row = Row("ours", "N = 1", 2.0, "theirs", 1.0, wanted)
    assert row.ratio == ratio
    assert row.reached == reached
    assert ("NOT REACHED" in as_table([row])) != reached


def test_functions_are_timed_alternately() -> None:
    called: list[int] = []
    seconds = fastest(lambda: called.append(0), lambda: called.append(1), repeats=2)
    assert called == [0, 1, 0, 1, 0, 1]
    assert all(0 < second < 1 for second in seconds)


def test_the_benchmark_of_programs_runs(capsys: pytest.CaptureFixture[str], without_type_checks: None) -> None:
    programs.topics(8, 5, 2, 8, most=0.01)
    programs.markov(8, 3, 2, 4, most=0.01)
    programs.ratio(50, 2, n_steps=2)
    assert capsys.readouterr().out.count("from the target") == 6


def test_the_benchmark_of_intervals_runs(without_type_checks: None) -> None:
    assert "ratio" in intervals.cost(200, 1, 2)


def test_the_benchmark_of_coverage_runs(without_type_checks: None) -> None:
    *lines, last = coverage.measured(two_lines(SETTINGS[1], 60), 2, 60.0, n_draws=40)
    methods = ("mean field", "linear response", "refined", "exact")
    assert all(method in line for method, line in zip(methods, lines, strict=True))
    assert last.split()[:5] == ["2", "data", "sets,", "0", "failed;"]


@pytest.mark.parametrize("case", models(), ids=lambda case: case.name)
def test_the_truth_of_each_case_is_in_the_order_of_linear_response(case: Case, without_type_checks: None) -> None:
    """Of one data set all quantities are within five standard deviations of the truth."""
    rows = case.rows(0)
    start = torch.nn.functional.one_hot(rows.z, case.mixture().n_components).double() + 0.05
    result = fit(case.mixture(), rows.x, rows.y, initial_responsibilities=start, progress=False)
    response = linear_response(result, rows.x, rows.y)
    assert len(case.kinds) == len(rows.truth) == len(response.names)
    assert float(((response.estimates - rows.truth) / response.standard_deviations).abs().max()) < 5.0
    assert all(("gate" in name) == (kind == "w") for name, kind in zip(response.names, case.kinds, strict=True))


def test_the_benchmark_of_calibration_runs(without_type_checks: None) -> None:
    panels = calibration.simulated(MODELS[1], 2, 60.0, n_draws=40)
    panels |= calibration.per_object(1)
    assert calibration.table(panels).count("\n") == 3 * 4 + 3
    assert len(drawn(panels).axes) == 6


def test_uniform_samples_are_told_from_others() -> None:
    generator = torch.Generator().manual_seed(3)
    samples = torch.rand(300, 100, generator=generator, dtype=torch.float64)
    points = torch.arange(1, N_POINTS + 1).double() / (N_POINTS + 1.0)
    differences = (samples.unsqueeze(-1) < points).double().mean(1) - points
    low, high = (torch.from_numpy(end) for end in band(100))
    outside = ((differences < low - 1e-9) | (differences > high + 1e-9)).any(-1).double().mean()
    assert 0.01 < float(outside) < 0.1
    above = [sum(chi_square(sample) > chi_square_limit() for sample in samples)]
    above.append(sum(largest_difference(sample) > difference_limit(100) for sample in samples))
    assert all(3 <= count <= 30 for count in above)
    narrow = torch.distributions.Normal(0.0, 0.5).icdf(samples[:5]).mul(4.0).erf()
    assert all(largest_difference(0.5 + 0.5 * sample) > difference_limit(100) for sample in narrow)


def test_the_benchmark_of_acceleration_runs(without_type_checks: None) -> None:
    figures = acceleration.line("overlapping lines", 1e-7, n_data_sets=1).split()
    assert figures[-3:] == ["1", "of", "1"]
    assert pace.FIRST == 12


# A package whose figures are counted by hand below.
SAMPLE = {
    "__init__.py": """
        from types import SimpleNamespace

        from mixpyro.arguments import check_number
        from mixpyro.gates.base import DirichletGate

        LinearExperts = MixtureOfExperts = lambda *parts: parts


        def fit(mixture, x, y, *, max_iterations, **options):
            '''Fit nothing.

            Args:
                mixture: not read.
                x, y: not read.
                max_iterations: calls of two functions and one check.
                **options: not read.
            '''
            for iteration in range(max_iterations):
                check_number(iteration)
                mixture[0].update()
            return SimpleNamespace(n_iterations=max_iterations)
        """,
    "arguments.py": """
        def check_number(value):
            '''Check nothing.'''
            # Not a line of code.
            return value
        """,
    "gates/base.py": """
        class Part:
            def update(self): raise NotImplementedError

            def weights(self):
                '''Give nothing.'''
                raise NotImplementedError


        class Gate(Part):
            is_flag: bool = True

            def weights(self):
                def nested(argument): return argument
                return nested(None)


        class DirichletGate(Gate):
            def __init__(self, n_components): self.n_components = n_components

            def update(self):
                self._private()

            def _private(self): ...
        """,
    "gates/other.py": "",
}
FIGURES = {
    "calls of one iteration": "3",
    "  in files": "2",
    "  of these, checks of arguments": "1",
    "members to write for a subclass of Gate": "1 (and 1 public, 1 flags)",
    "files in the fullest folder": "2 gates",
    "lines of code": "25",
    "longest function, lines of code": "5 fit",
    "longest file, lines": "24 gates/base.py",
    "public classes and functions": "9",
    "  with a docstring": "33%",
    "  median words of a docstring": "2",
    "  median words of its first line": "2",
    "  with arguments": "3",
    "  of these, with all of them under Args": "33%",
}


def test_the_structure_of_a_package_is_measured(tmp_path: Path) -> None:
    for name, text in SAMPLE.items():
        path = tmp_path / "mixpyro" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    assert structure.measured(tmp_path) == FIGURES
