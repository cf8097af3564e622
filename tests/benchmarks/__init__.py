"""Programs that print figures; none of them is part of the timed suite."""
