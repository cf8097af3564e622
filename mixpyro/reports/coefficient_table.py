"""Parameters of a fit by name: as text, as a DataFrame, and noises as standard deviations."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from mixpyro.reports.named_rows import NamedRows, pandas

# Parameters whose logarithm has the Normal interval, and the power of their exponential that is a noise.
LOGARITHMS = {"log precision": ("noise", -0.5), "log scale": ("scale", 1.0)}


class Coefficient(NamedTuple):
    """A parameter with its uncertainty."""

    estimate: float  # posterior mean; of an estimated parameter, its estimate
    standard_error: float  # posterior standard deviation; infinite where the data do not determine the parameter
    z: float  # estimate / standard_error; NaN for all but effects that are estimated without a prior
    p_value: float  # probability of a larger |z| under a Normal distribution if the effect were zero; NaN where z is
    low: float  # ends of the Normal interval
    high: float


class Noise(NamedTuple):
    """A noise, or another positive scale, with its interval."""

    estimate: float  # exp of the mean of its logarithm
    low: float
    high: float


class CoefficientTable(NamedRows[Coefficient]):
    """Parameters by name, as in ``experts: component 0, intercept``."""

    def to_frame(self) -> Any:  # noqa: ANN401 (a pandas DataFrame)
        """Return a pandas DataFrame with a row for each parameter, by part, component and name."""
        index = pandas().MultiIndex.from_tuples(map(parts_of, self), names=["part", "component", "parameter"])
        return pandas().DataFrame(list(self.values()), columns=list(Coefficient._fields), index=index)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns that text and notebooks show: without tests where no parameter has any."""
        tests = ("z", "p_value")
        has_tests = any(not math.isnan(row.z) for row in self.values())
        return tuple(name for name in Coefficient._fields if has_tests or name not in tests)

    def noises(self) -> NamedRows[Noise]:
        """Return standard deviations of noises and other scales, of which this table has logarithms."""
        found = {}
        for name, row in self.items():
            for log_name, (plain, power) in LOGARITHMS.items():
                if f", {log_name}" in name or name.endswith(f": {log_name}"):
                    ends = sorted(_power(power * end) for end in (row.low, row.high))
                    found[name.replace(log_name, plain)] = Noise(_power(power * row.estimate), *ends)
        return NamedRows(found)


def _power(exponent: float) -> float:
    """Return the exponential, infinite where it overflows."""
    return math.exp(exponent) if exponent < math.log(1e300) else math.inf


def parts_of(name: str) -> tuple[str, str, str]:
    """Return gate or experts, the component, and the parameter of a name of a coefficient.

    Args:
        name: as in ``experts: component 0, intercept``; ``all components`` for a noise that they share, and
            empty where it has none.
    """
    part, _, rest = name.partition(": ")
    component, comma, parameter = rest.partition(", ")
    if comma:
        return part, component, parameter
    # Pandas prints an empty label as if it were the one above, so that one noise of all would be the last component's.
    return part, "all components" if part == "experts" and rest.startswith(tuple(LOGARITHMS)) else "", rest


def with_output_names(names: Iterable[str], features: Iterable[str], outputs: Iterable[str]) -> list[str]:
    """Return names of coefficients with the outputs' own names in place of numbered ones, y0, y1 and so on.

    Args:
        names: of coefficients.
        features: names of the columns of x. If one of them is called as a numbered output is, nothing is replaced.
        outputs: names of the columns of y.
    """
    own = list(outputs)
    if any(re.fullmatch(r"y\d+", feature) for feature in features):
        return list(names)

    def replaced(match: re.Match[str]) -> str:
        number = int(match[1])
        return own[number] if number < len(own) else match[0]

    return [re.sub(r"(?<![\w.])y(\d+)(?!\w)", replaced, name) for name in names]
