"""Names that Pyro gives to modules and their sites."""

from pyro.nn import PyroModule


def module_name(module: PyroModule) -> str:
    """Return the prefix of the sites of a module, an empty string where it has none.

    Args:
        module: a gate, experts or a mixture.
    """
    return str(module._pyro_name)


def site_name(module: PyroModule, name: str) -> str:
    """Return the full name of a site of a module, such as ``gate.weights``.

    Args:
        module: a gate, experts or a mixture.
        name: of the site, without the prefix.
    """
    prefix = module_name(module)
    return f"{prefix}.{name}" if prefix else name
