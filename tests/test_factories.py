"""New tensors do not depend on the caller's default dtype and device."""

import ast

from tests.test_architecture import PACKAGE, modules

# Functions of torch that make a tensor of floating numbers from sizes.
OF_SIZES = {"empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randn", "zeros"}
# And those that make one of the kind of its values.
OF_VALUES = {"arange", "randint", "randperm", "tensor"}


def unnamed(tree: ast.Module) -> list[str]:
    """Calls that make a tensor without saying of which dtype, or where."""
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "torch"
        ):
            named = {word.arg for word in node.keywords}
            wanted = {"device"} | ({"dtype"} if node.func.attr in OF_SIZES else set())
            if node.func.attr in OF_SIZES | OF_VALUES and not wanted <= named:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_new_tensors_name_their_dtype_and_device() -> None:
    found = {str(path.relative_to(PACKAGE)): unnamed(ast.parse(path.read_text())) for path in modules()}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_what_is_looked_for_is_found() -> None:
    assert unnamed(ast.parse("torch.zeros(3, device='cpu')")) == ["line 1: torch.zeros(3, device='cpu')"]
    assert unnamed(ast.parse("torch.tensor(3.0)")) and not unnamed(ast.parse("torch.tensor(3.0, device=x.device)"))
