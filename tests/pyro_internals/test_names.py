"""Names of modules and of their sites."""

from pyro.nn import PyroModule

from mixpyro.pyro_internals.names import module_name, site_name


def test_sites_have_the_name_of_their_module_as_prefix() -> None:
    assert site_name(PyroModule("gate"), "weights") == "gate.weights"
    assert site_name(PyroModule(), "weights") == "weights"


def test_a_module_that_is_an_attribute_takes_the_name_of_the_attribute() -> None:
    whole = PyroModule("whole")
    whole.part = PyroModule("gate")
    assert module_name(whole.part) == "whole.part"
