"""The group of log likelihoods: of draws of the exact posterior, or of draws of a guide, which ArviZ must not read."""

from mixpyro.diagnostics.arviz_versions import ArvizData, Dataset, datasets_of

# ArviZ's own name. Its functions take such draws to be of the exact posterior, and say nothing where they are not.
OF_POSTERIOR = "log_likelihood"
# Draws of a guide: `mixpyro.diagnostics.loo` weights them, and ArviZ finds no log likelihood and raises.
OF_GUIDE = "log_likelihood_of_guide"


def log_likelihoods(data: ArvizData) -> Dataset:
    """Return the log likelihoods of the objects under every draw.

    Args:
        data: result of :func:`mixpyro.to_arviz` or :func:`~mixpyro.diagnostics.program_to_arviz`.

    Raises:
        ValueError: if there are none.
    """
    datasets = datasets_of(data)
    for name in (OF_GUIDE, OF_POSTERIOR):
        if name in datasets:
            return datasets[name]
    raise ValueError(
        f"`data` must have a group {OF_GUIDE!r} or {OF_POSTERIOR!r}; got {', '.join(datasets) or 'none'}. Do not leave "
        "it out by `leave_out`."
    )
