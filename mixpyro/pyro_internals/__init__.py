"""Every use of a private name of Pyro, and the rules of its parameter store and plates."""
