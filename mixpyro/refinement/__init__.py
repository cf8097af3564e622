"""From a fit's approximate posterior towards the exact one: importance sampling, then NUTS."""
