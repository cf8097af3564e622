"""How far a stochastic update goes."""

from dataclasses import dataclass

from mixpyro import arguments


@dataclass(frozen=True)
class RobbinsMonro:
    """Step sizes ρₜ = (t + τ)^−κ, t = 1, 2, …: they sum to infinity and their squares do not.

    Args:
        delay: τ, at least 0; a larger one mistrusts the first batches more.
        decay: κ, above ½ and at most 1; a smaller one forgets old batches faster.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference, eq. 26.

    Example:
        >>> RobbinsMonro(delay=1.0, decay=1.0)(1)
        0.5
    """

    delay: float = 1.0
    decay: float = 0.7

    def __post_init__(self) -> None:
        arguments.positive_number("delay", self.delay, zero=True)
        if not 0.5 < arguments.positive_number("decay", self.decay) <= 1.0:
            raise ValueError(f"`decay` must be above 0.5 and at most 1; got {self.decay}.")

    def __call__(self, step: int) -> float:
        """ρₜ of step t, counted from one."""
        return float((step + self.delay) ** -self.decay)
