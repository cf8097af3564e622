"""Is the posterior any good, and what does it say? Draws for ArviZ, labels, checks, pictures."""

from mixpyro.diagnostics.arviz_versions import Elpd, from_netcdf
from mixpyro.diagnostics.conversion import to_arviz
from mixpyro.diagnostics.program import program_to_arviz

__all__ = ["Elpd", "from_netcdf", "program_to_arviz", "to_arviz"]
