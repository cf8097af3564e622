"""Checks of what a user passes in.

Each function returns the value it has checked, or raises with a message of one form: `` `argument` must <condition>;
got <value>. <next step> ``. Types and shapes are always checked. The values in a tensor are checked while Pyro's own
validation is on. All checks are made where a user calls the library, never inside a loop.
"""

from mixpyro.arguments.checked import (
    can_be_called,
    checked,
    function,
    function_of,
    in_memory,
    index,
    integer_from,
    is_iterable,
    mapping,
    of_numbers,
    one_of_kinds,
    path,
    probability,
    rows_in_memory,
    seed,
    step_sizes,
    tensors,
    text,
    texts,
)
from mixpyro.arguments.data import (
    DTYPES,
    a_tensor,
    assignment_probabilities,
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
from mixpyro.arguments.declared import declared
from mixpyro.arguments.dense import array_of, dense, is_dense, stored
from mixpyro.arguments.densities import are_numbers, finite_bound
from mixpyro.arguments.formulas import explained
from mixpyro.arguments.integers import components, integers
from mixpyro.arguments.messages import shown
from mixpyro.arguments.numbers import flag, integer, moderate_number, positive_number, size, step_size
from mixpyro.arguments.numpy_contexts import with_default_errors
from mixpyro.arguments.objects import object_indices
from mixpyro.arguments.posteriors import posterior, same_shapes
from mixpyro.arguments.renamed import renamed
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
    refuse_lazy,
)
from mixpyro.arguments.validation import checks_values
from mixpyro.arguments.vectors import filled, no_modules, positive_definite, positive_vector, representable, vector

__all__ = [
    "DTYPES",
    "a_tensor",
    "are_numbers",
    "array_of",
    "assignment_probabilities",
    "can_be_called",
    "checked",
    "checks_values",
    "components",
    "declared",
    "dense",
    "device",
    "dtype",
    "explained",
    "filled",
    "finite",
    "finite_bound",
    "flag",
    "function",
    "function_of",
    "graph_of_inputs",
    "guard",
    "guarded",
    "has_derivatives",
    "in_memory",
    "in_these_contexts",
    "in_transform",
    "index",
    "inputs",
    "integer",
    "integer_from",
    "integers",
    "is_batched",
    "is_dense",
    "is_iterable",
    "make_normal",
    "mapping",
    "moderate_number",
    "no_modules",
    "normal",
    "normal_distribution",
    "object_indices",
    "of_numbers",
    "one_of_kinds",
    "outputs",
    "outside_contexts",
    "outside_contexts_on_the_cpu",
    "outside_of_contexts",
    "path",
    "positive_definite",
    "positive_number",
    "positive_vector",
    "posterior",
    "probability",
    "program_inputs",
    "refuse_lazy",
    "renamed",
    "representable",
    "responsibilities",
    "rows_in_memory",
    "same_device",
    "same_shapes",
    "seed",
    "shown",
    "size",
    "step_size",
    "step_sizes",
    "stored",
    "tensor",
    "tensors",
    "text",
    "texts",
    "vector",
    "with_default_errors",
]
