# %% [markdown]
# # What does a paper need of a fit, and does it come out the same tomorrow?
#
# **Data.** The patents of 70 firms, as in `firms_and_patents.py`. The source is in `data/README.md`.
#
# **What is made.** A table in LaTeX, a figure as PDF, a file with the model, and what must be said so that others can
# repeat it: priors, how the fit ended, seed, versions. Then the fit is run again, and the file is read again, and both
# must give the same digits.

# %%
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mixpyro import FitResult, GLMExperts, MixtureOfExperts, SoftmaxGate, fit, load
from mixpyro.diagnostics.plots import plot_expert_lines, plot_gate_curve
from mixpyro.experts.families import Poisson

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
FOLDER = Path(sys.argv[-1]) if "--save" in sys.argv else Path(tempfile.mkdtemp())
firms = pd.read_csv(HERE / "data" / "patent.csv")


def fitted() -> FitResult:
    """Fit three kinds of firms; the seed is part of the recipe."""
    mixture = MixtureOfExperts(SoftmaxGate(3, 1), GLMExperts(3, 1, Poisson()))
    x, y, gate_x = firms[["lgRD"]], firms["Patents"], firms[["RDS"]]
    return fit(mixture, x, y, gate_x=gate_x, n_restarts=5, seed=1, progress=False)


result = fitted()

# %% [markdown]
# ## The table
#
# `coefficients()` is a DataFrame, so pandas writes the LaTeX, for the packages `booktabs` and `multirow`. Standard
# errors include that it is uncertain which firm is of which component.

# %%
table = result.coefficients()[["estimate", "standard_error", "low", "high"]]
table.columns = ["estimate", "SE", "5 %", "95 %"]
latex = table.to_latex(float_format="%.2f", escape=True, caption="Three kinds of firms", label="tab:firms")
(FOLDER / "table.tex").write_text(latex)
print("\n".join(latex.splitlines()[:9]), "\n...")

# %% [markdown]
# ## The figure

# %%
figure = plt.figure(figsize=(7, 2.8), layout="constrained")
left, right = figure.subplots(1, 2)
plot_expert_lines(result, ax=left)
plot_gate_curve(result, ax=right)
right.set_xlim(0, 0.2)  # one firm spends three times its sales
figure.savefig(FOLDER / "figure.pdf", metadata={"CreationDate": None})
if "--save" in sys.argv:
    figure.savefig(FOLDER / "from_fit_to_paper.png", dpi=120)

# %% [markdown]
# ## What to report

# %%
print(result)
criteria = result.criteria()
print(f"log likelihood {criteria.log_likelihood:.3f}, {criteria.n_parameters} parameters, BIC {criteria.bic:.2f}")
print(
    f"seed {result.options['seed']}, {len(result.runs)} restarts, tolerance {result.options['tolerance']:g} nats a row"
)
print("prior of the gate:", result.mixture.gate.prior_in_words())
print("prior of the experts:", result.mixture.experts.prior_in_words())
print("versions:", ", ".join(f"{name} {version}" for name, version in result.versions.items()))

# %% [markdown]
# ## Saved, loaded, run again
#
# The file has the model, the names of its columns and no code. It predicts for rows of a table by these names.

# %%
result.save(FOLDER / "firms.model")
loaded = load(FOLDER / "firms.model")
new = pd.DataFrame({"RDS": [0.05, 0.05], "lgRD": [1.0, 4.0]})
same = np.array_equal(loaded.predict(new), result.predict(new))
print(f"predictions of component means by the loaded model: {'the same to the last digit' if same else 'different'}")
again = fitted()
same = again.coefficients().equals(result.coefficients()) and again.bound == result.bound
print(f"estimates and bound of a second fit: {'the same to the last digit' if same else 'different'}")
for name in ("table.tex", "figure.pdf", "firms.model"):
    print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")

# %% [markdown]
# **Answer.** A table with standard errors, a figure, and a model file, each in one line from the result. For the text:
# the log likelihood −197.675 with 10 parameters, BIC 437.83, that there are no priors, that 3 of 5 restarts reached
# this maximum with seed 1, and the versions. On one machine with these versions a second run gives the same digits; on
# another one the last digits may differ, and a report should not print them.
