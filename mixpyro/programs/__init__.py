"""Gates in a Pyro program of your own."""
