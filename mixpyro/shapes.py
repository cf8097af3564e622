"""Axes of tensors, by the letters that docstrings and annotations use, and names for common shapes.

| letter | axis |
| --- | --- |
| N | objects: rows of the data |
| B | objects of a minibatch or subsample |
| D | inputs of the experts: columns of x |
| G | inputs of the gate: columns of ``gate_x``, which is x unless it is given |
| E | columns of a design matrix: D, and one more with an intercept |
| P | outputs: columns of y |
| K | components |
| C | linear predictors of a component: 1, or one for each category but one |
| R | runs of a fit, one for each restart |
| F | columns of a table that are stored as the rows of a tensor [F, N] |
| M | weights or matrices in a function that knows no components |
| Q | probabilities of quantiles, or parameters of an information matrix |
| S | draws of a posterior, prior or predictive distribution |

``#`` before a letter marks an axis that may have length one and broadcasts. ``*`` marks any number of axes, none
included. In prose ``...`` stands for such axes.
"""

from typing import Any, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

# What a user may give in place of a tensor: an array, a list, a frame or a Series. What comes of a frame is a frame.
AnyTable: TypeAlias = Any
# What a gate reads in a Pyro program: [N, D], and [*objects, D] in several plates.
ProgramInputs: TypeAlias = Float[Tensor, "*objects"]
Inputs: TypeAlias = Float[Tensor, "N D"]
GateInputs: TypeAlias = Float[Tensor, "N G"]
Design: TypeAlias = Float[Tensor, "N E"]
Outputs: TypeAlias = Float[Tensor, "N P"]
# Outputs as a user passes them: a single one may lack its axis.
Targets: TypeAlias = Float[Tensor, "N P"] | Float[Tensor, " N"]
Responsibilities: TypeAlias = Float[Tensor, "N K"]
Weights: TypeAlias = Float[Tensor, "#N K"]
# Numbers of the objects that rows belong to: a slice, or an integer for each row.
ObjectIndices: TypeAlias = slice | Int[Tensor, " N"]
Scalar: TypeAlias = Float[Tensor, ""]
# A posterior, statistics or columns: a nested tuple of tensors whose type is that of its family.
Value: TypeAlias = Any
