"""What to look at before trusting a covariance by linear response, in words."""

from mixpyro.intervals.responses.matrices import Matrices

# Fraction of missing information above which intervals by linear response are too short, and EM is slow.
MUCH_MISSING = 0.95
# Slope of the bound in posterior standard deviations, by about which means are off, that is worth a word.
STEEP = 1e-3
# Posterior standard deviations between the fit and the optimum that are worth a word.
FAR_FROM_OPTIMUM = 0.1


def cautions_of(matrices: Matrices, share: float, names: tuple[str, ...], has_integrated: bool) -> list[str]:
    """Return what to look at before trusting the covariance, in words.

    Args:
        matrices: what the covariance was computed from.
        share: largest share of information that is missing, from 0 to 1.
        names: of the quantities.
        has_integrated: whether weights of single objects were integrated out.
    """
    found = []
    if share > MUCH_MISSING:
        found.append(
            f"{share:.1%} of the information on some combination of parameters is missing, because assignments are "
            "unknown: intervals by linear response are too short, and the posterior may have other modes."
        )
    if matrices.slope > STEEP:
        found.append(
            f"the bound is not at its maximum: it rises by {matrices.slope:.2g} nats for each standard deviation. "
            "Fit to a smaller `tolerance`."
        )
    if matrices.moved > FAR_FROM_OPTIMUM and has_integrated:
        found.append(
            "weights of single objects are integrated out, which the fit's mean field does not do: estimates are up to "
            f"{matrices.moved:.2g} standard deviations from the fit's. MarginalObjectDirichletGate fits them."
        )
    elif matrices.moved > FAR_FROM_OPTIMUM:
        found.append(
            f"the optimum is up to {matrices.moved:.2g} standard deviations away from the fit; estimates and "
            "covariances are those of the optimum. Fit to a smaller `tolerance`."
        )
    variances = matrices.covariance.diagonal()
    infinite = [names[number] for number in variances.isinf().nonzero().squeeze(-1).tolist()]
    if infinite:
        found.append(
            f"{len(infinite)} quantities have too few objects for a finite variance, {infinite[0]} among them."
        )
    return found
