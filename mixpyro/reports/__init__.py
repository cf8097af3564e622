"""What a fitted mixture says, as tables."""
