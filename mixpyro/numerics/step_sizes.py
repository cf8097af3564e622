"""Step sizes of stochastic natural-gradient updates."""

from dataclasses import dataclass

from mixpyro import arguments


@dataclass(frozen=True)
class RobbinsMonro:
    """Decreasing step sizes ρₜ = (t + τ)^−κ of steps t = 1, 2, ….

    They sum to infinity and their squares do not, so that a stochastic algorithm converges.

    Args:
        delay: τ, at least 0; a larger one gives the first batches less weight.
        decay: κ, above ½ and at most 1; a smaller one forgets old batches faster.

    Raises:
        TypeError: if ``delay`` or ``decay`` is not a number.
        ValueError: if one is out of its range.

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
        """Compute the size of a step.

        Args:
            step: t, counted from 1.

        Returns:
            ρₜ, above 0; at most 1 where t + τ is 1 or more.

        Raises:
            TypeError: if ``step`` is not a number.
            ValueError: if it is negative, or zero without a delay.
        """
        return float((arguments.positive_number("step", step, zero=self.delay > 0) + self.delay) ** -self.decay)
