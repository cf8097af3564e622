"""Power-scaling sensitivity of a posterior to its prior and its likelihood, by ArviZ."""

from typing import Any

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, arviz, arviz_data, datasets_of, from_datasets, has_data_trees
from mixpyro.diagnostics.importance_sampling import resample
from mixpyro.diagnostics.log_likelihoods import OF_GUIDE

# ArviZ 1.x names an axis of its result so, and cannot have one of that name in the draws.
RESERVED = "component"
OTHER = "k"


@arguments.with_default_errors
@arguments.checked(data=arviz_data, seed=arguments.seed)
def psense_summary(data: ArvizData, *, seed: int = 0, **options: Any) -> Any:  # noqa: ANN401 (a pandas DataFrame)
    """Return how much each parameter's posterior follows from the prior and from the data, a table of ArviZ 1.x.

    ``az.psense_summary`` uses the name ``component`` for an axis of its own, so it cannot read draws that have one.
    Here that axis is called ``k``. Draws of a guide are resampled first, as by
    :func:`~mixpyro.diagnostics.resample`.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.
        seed: of the resampling, at least 0.
        **options: of ``az.psense_summary``.

    Returns:
        One row a number, with the columns ``prior``, ``likelihood`` and ``diagnosis``.

    Raises:
        RuntimeError: with ArviZ 0.23, which has ``az.psens`` instead.

    References:
        Kallioinen, Paananen, Bürkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
        power-scaling, Statistics and Computing 34, 57.
    """
    if not has_data_trees():
        raise RuntimeError(
            "psense_summary must have ArviZ 1.x; got 0.23. Use az.psens(resample(data), component='prior') and "
            "'likelihood'."
        )
    datasets = datasets_of(resample(data, seed=seed) if OF_GUIDE in datasets_of(data) else data)
    renamed = {name: one.rename({RESERVED: OTHER}) if RESERVED in one.dims else one for name, one in datasets.items()}
    return arviz().psense_summary(from_datasets(renamed), **options)
