"""All uses of private names of Pyro, and checks of its parameter store and plates."""
