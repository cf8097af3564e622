"""Fit with the installed package alone: run it outside a checkout's environment, with warnings as errors."""

import sys
from importlib import metadata
from pathlib import Path

import torch

import mixpyro

# What a fit to tensors must not import, be it installed or not.
LATE = ("arviz", "formulaic", "matplotlib", "pandas", "sklearn")


def main() -> None:
    """Fit two lines and print what was found."""
    where = Path(mixpyro.__file__)
    assert "site-packages" in where.parts, f"{where} is no installed package"
    x = torch.linspace(-2, 2, 100).unsqueeze(1)
    y = torch.where(torch.arange(100).unsqueeze(1) % 2 == 0, 3 + x, -3 - x) + 0.1 * torch.sin(50 * x)
    mixture = mixpyro.MixtureOfExperts(mixpyro.DirichletGate(2), mixpyro.LinearExperts(2, n_features=1))
    result = mixpyro.fit(mixture, x, y, n_restarts=4, progress=False)
    assert result.converged
    early = sorted(set(LATE) & set(sys.modules))
    assert not early, f"a plain fit imported {early}"
    print("mixpyro", metadata.version("mixpyro"), "of the wheel:", result)


if __name__ == "__main__":
    main()
