"""Names for the shapes that the whole library uses.

N objects, D inputs, G inputs of a gate, E columns of a design matrix, P outputs, K components. A leading ``#`` marks an
axis that may have length one and broadcasts.
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Inputs: TypeAlias = Float[Tensor, "N D"]
GateInputs: TypeAlias = Float[Tensor, "N G"]
Design: TypeAlias = Float[Tensor, "N E"]
Outputs: TypeAlias = Float[Tensor, "N P"]
Targets: TypeAlias = Float[Tensor, "N P"] | Float[Tensor, " N"]
Responsibilities: TypeAlias = Float[Tensor, "N K"]
Weights: TypeAlias = Float[Tensor, "#N K"]
ObjectIndices: TypeAlias = slice | Int[Tensor, " N"]
Scalar: TypeAlias = Float[Tensor, ""]
