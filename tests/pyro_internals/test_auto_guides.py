"""An automatic guide of some sites finds the plates of its model."""

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer.autoguide import AutoGuideList

from mixpyro.pyro_internals.auto_guides import PartialGuide


def model(rows: torch.Tensor | None = None) -> None:
    """Sample one site in a plate of six, of all of them or of some."""
    with pyro.plate("objects", 6, subsample=rows, dim=-1):
        pyro.sample("z", Normal(0.0, 1.0))


def test_sites_and_plates_are_those_of_the_model() -> None:
    guide = PartialGuide(model)
    site = guide.model_site("z")
    assert site is not None
    assert guide.model_site("other") is None
    plate = guide.innermost_plate(site)
    assert (plate.name, plate.size, plate.dim) == ("objects", 6, -1)


def test_in_a_list_the_plates_are_those_of_the_list() -> None:
    guides = AutoGuideList(model)
    part = PartialGuide(model)
    guides.append(part)
    guides._setup_prototype()
    plates = guides._create_plates()
    assert part.innermost_plate(part.model_site("z")) is plates["objects"]


def test_a_subsample_that_the_guide_cannot_know_is_refused() -> None:
    rows = torch.tensor([1, 4])
    guide = PartialGuide(model)
    guide.model_site("z", rows)
    with pytest.raises(RuntimeError, match=r"`create_plates` must be given where the model has a `subsample`"):
        guide.refuse_own_subsample()
    told = PartialGuide(model, create_plates=lambda rows: pyro.plate("objects", 6, subsample=rows, dim=-1))
    told.model_site("z", rows)
    told.refuse_own_subsample()
