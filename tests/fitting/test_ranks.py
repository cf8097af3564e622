"""Ids of groups that processes compare."""

import numpy as np
import pandas as pd
import torch

from mixpyro.fitting.ranks import code_of_group
from mixpyro.groups import groups_of


def test_ids_that_are_equal_have_one_number_whatever_holds_them() -> None:
    words = (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"]))
    numbers = ([1, 2], np.array([1, 2]), torch.tensor([1, 2]), np.array([1.0, 2.0]), np.array([1, 2], dtype=object))
    for tables in (words, numbers):
        codes = [[code_of_group(one) for one in groups_of(table).ids] for table in tables]
        assert all(own == codes[0] for own in codes) and len(set(codes[0])) == 2
    assert code_of_group(1.5) != code_of_group(1) != code_of_group("1")
