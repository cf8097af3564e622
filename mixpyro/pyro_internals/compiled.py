"""Compiled ELBOs, which keep what was no parameter when they were compiled."""

import torch


def refuse_compiled(name: str) -> None:
    """Raise if a program is being compiled that reads a posterior.

    ``torch.jit.trace`` would make it a constant: after an update the compiled step would still read the old one.

    Args:
        name: of the gate, experts or mixture whose posterior is read.

    Raises:
        RuntimeError: if it is.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        raise RuntimeError(
            f"`loss` must not be compiled where {name!r} has a posterior, for it would keep that of its first step; "
            "got a JitTraceEnum_ELBO, or another that torch.jit traces. Use TraceEnum_ELBO."
        )
