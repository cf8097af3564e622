"""Checks of what a user passes in.

Each function returns the value it has checked, or raises with a message of one form: `` `argument` must <condition>;
got <value>. <next step> ``. Types and shapes are always checked. The values in a tensor are checked while Pyro's own
validation is on. All checks are made where a user calls the library, never inside a loop.
"""

from mixpyro.arguments.data import (
    a_tensor,
    device,
    dtype,
    finite,
    inputs,
    outputs,
    program_inputs,
    responsibilities,
    same_device,
    tensor,
)
from mixpyro.arguments.numbers import (
    filled,
    integer,
    moderate_number,
    positive_definite,
    positive_number,
    positive_vector,
    representable,
    step_size,
    vector,
)
from mixpyro.arguments.numpy_contexts import with_default_errors
from mixpyro.arguments.posteriors import posterior, same_shapes
from mixpyro.arguments.torch_contexts import (
    graph_of_inputs,
    guard,
    guarded,
    has_derivatives,
    in_these_contexts,
    in_transform,
    is_batched,
    make_normal,
    normal,
    normal_distribution,
    outside_contexts,
    outside_contexts_on_the_cpu,
    outside_of_contexts,
)
from mixpyro.arguments.validation import checks_values

__all__ = [
    "a_tensor",
    "checks_values",
    "device",
    "dtype",
    "filled",
    "finite",
    "graph_of_inputs",
    "guard",
    "guarded",
    "has_derivatives",
    "in_these_contexts",
    "in_transform",
    "inputs",
    "integer",
    "is_batched",
    "make_normal",
    "moderate_number",
    "normal",
    "normal_distribution",
    "outputs",
    "outside_contexts",
    "outside_contexts_on_the_cpu",
    "outside_of_contexts",
    "positive_definite",
    "positive_number",
    "positive_vector",
    "posterior",
    "program_inputs",
    "representable",
    "responsibilities",
    "same_device",
    "same_shapes",
    "step_size",
    "tensor",
    "vector",
    "with_default_errors",
]
