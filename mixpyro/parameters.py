"""Parameters and Pyro's parameter store: whose parameter is it?"""

import pyro
import torch


def refuse_shared_parameters(module: pyro.nn.PyroModule) -> None:
    """Raise if the parameter store holds another module's parameters under this module's name.

    Pyro would go on without a word: the store's tensors are trained, and the module's own never change.

    Raises:
        RuntimeError: if it does.
    """
    own = dict(module.named_parameters())
    if not own:
        return
    prefix = f"{module._pyro_name}." if module._pyro_name else ""
    for stored_name, stored in pyro.get_param_store().named_parameters():
        full_name = stored_name.replace("$$$", ".")
        path = full_name.removeprefix(prefix) if full_name.startswith(prefix) else None
        mine = None if path is None else own.get(path, own.get(f"{path}_unconstrained"))
        if mine is not None and mine is not stored:
            raise RuntimeError(
                f"the name of a parameter must belong to one module; got {full_name!r}, which another module has put "
                "into Pyro's parameter store. Give each its own `name`, or call pyro.clear_param_store() in between."
            )


def has_parameters(module: torch.nn.Module) -> bool:
    """Whether the module has anything that a gradient M-step could change."""
    return any(parameter.requires_grad for parameter in module.parameters())
