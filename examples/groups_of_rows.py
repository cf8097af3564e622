"""Do hospitals differ in how many patients die, and does a treatment help in all of them alike?

Question: 22 centres report deaths with and without beta blockers, two rows each. How many kinds of centres are there,
which centre is of which kind, and by how much does the treatment lower the odds of death?

Data: ``data/betablocker.csv``; its source is in ``data/README.md``.

Expected answer: three kinds or four by BIC, which counts centres, not rows: the fourth is centre 7 alone. Mortality
without treatment is from 6 to 19 percent. One effect of the treatment for all kinds: a log odds ratio of −0.26 with a
standard error of 0.05, odds lower by a sixth to a third. In R, flexmix finds log likelihoods of −181.33, −159.36 and
−155.75 for two, three and four kinds.

Source of the method: Grün, Leisch (2008), FlexMix version 2: finite mixtures with concomitant variables and varying and
constant parameters, Journal of Statistical Software 28(4).
"""

import argparse
import csv
from pathlib import Path

import torch
from torch import Tensor

from mixpyro import FitResult, GLMExperts, MixtureOfExperts, SoftmaxGate, coefficients, criteria, fit
from mixpyro.experts.families import Binomial

HERE = Path(__file__).parent


def read() -> tuple[Tensor, Tensor, list[str]]:
    """Return treatment and number of patients [44, 2], deaths [44], and the centre of each row."""
    with (HERE / "data" / "betablocker.csv").open() as file:
        rows = list(csv.DictReader(file))
    x = torch.tensor([[row["Treatment"] == "Treated", float(row["Total"])] for row in rows]).double()
    return x, torch.tensor([float(row["Deaths"]) for row in rows]).double(), [row["Center"] for row in rows]


def fitted(n_kinds: int, n_restarts: int) -> tuple[FitResult, float]:
    """Fit centres of several kinds; return the result, and its BIC."""
    x, deaths, centres = read()
    experts = GLMExperts(n_kinds, 1, Binomial(), exposure=True, shared=[0])
    mixture = MixtureOfExperts(SoftmaxGate(n_kinds, 0), experts)
    constant = x[:, :0]  # the gate reads no column: all centres have the same weights
    result = fit(mixture, x, deaths, gate_x=constant, groups=centres, n_restarts=n_restarts, progress=False)
    return result, criteria(result, x, deaths, gate_x=constant).bic


def report(result: FitResult) -> None:
    """Print the kinds of centres, the effect of the treatment, and which centre is of which kind."""
    x, deaths, _ = read()
    table = coefficients(result, x, deaths, gate_x=x[:, :0], feature_names=["treated", "patients"])
    effect = table["experts: all components, treated"]
    print(f"\nlog odds ratio of the treatment: {effect.estimate:.3f}, standard error {effect.standard_error:.3f}")
    assert result.groups is not None
    kinds = result.responsibilities.argmax(-1).tolist()
    for kind, intercept in enumerate(result.mixture.experts.coefficients[:, 0, 0].sigmoid().tolist()):
        own = [str(centre) for centre, one in zip(result.groups.ids, kinds, strict=True) if one == kind]
        print(f"component {kind}: mortality {intercept:.1%} without treatment, centres {', '.join(own)}")


def main(args: argparse.Namespace) -> None:
    """Fit one to four kinds, print their criteria, and report the best by BIC."""
    print(f"{'kinds':>5}{'log likelihood':>16}{'BIC':>9}")
    found = {}
    for n_kinds in range(1, args.kinds + 1):
        result, bic = found[n_kinds] = fitted(n_kinds, args.restarts)
        print(f"{n_kinds:>5}{result.bound:>16.2f}{bic:>9.1f}")
    best, _ = min(found.values(), key=lambda one: one[1])
    report(best)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=int, default=4, help="most kinds of centres")
    parser.add_argument("--restarts", type=int, default=20, help="starts of each fit")
    main(parser.parse_args())
