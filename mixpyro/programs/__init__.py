"""Gates in a user's own Pyro program."""
