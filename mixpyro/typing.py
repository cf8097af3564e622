"""Names for the shapes that the whole library uses.

N objects, D inputs, P outputs, K components. A leading ``#`` marks an axis that may have length one and broadcasts.
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Inputs: TypeAlias = Float[Tensor, "N D"]
Outputs: TypeAlias = Float[Tensor, "N P"]
Responsibilities: TypeAlias = Float[Tensor, "N K"]
Weights: TypeAlias = Float[Tensor, "#N K"]
ObjectIndices: TypeAlias = slice | Int[Tensor, " N"]
Scalar: TypeAlias = Float[Tensor, ""]
