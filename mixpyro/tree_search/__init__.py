"""Trees of components that are found from the data: the best of given components, and trees that are grown."""
