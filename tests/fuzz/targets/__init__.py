"""What is called: one maker of right calls for each public function and method."""

import random
from collections.abc import Callable

from tests.fuzz.call import Call
from tests.fuzz.targets import (
    adapters,
    constructors,
    diagnostics,
    files,
    fits,
    frontends,
    mixtures,
    parts,
    programs,
    results,
)

Maker = Callable[[random.Random], Call]

MAKERS: dict[str, Maker] = {
    **constructors.MAKERS,
    **mixtures.MAKERS,
    **parts.MAKERS,
    **fits.MAKERS,
    **results.MAKERS,
    **diagnostics.MAKERS,
    **files.MAKERS,
    **programs.MAKERS,
    **adapters.MAKERS,
    **frontends.MAKERS,
}
