"""Components that the first batch of a stream lacks: when to look for them, and what a mixture takes over."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from mixpyro.fitting.kept_rows import KeptRows, joined
from mixpyro.fitting.moved_components import Averages, Found, moved_components
from mixpyro.fitting.rows_of_all import number_of_all, picked_of_all
from mixpyro.fitting.stream_steps import reads_rows
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts

# Objects of the stream that are kept, of those that were well explained when they came, and of the others.
KEPT_ROWS, KEPT_BADLY = 500, 500
# Standard deviations of log evidences below their mean from where an object is badly explained. Normal rows of one
# output are there once in two thousand.
FAR = 6.0
# Share of objects that may be badly explained where no component lacks: twice that of Normal rows.
USUAL = 1e-3
# The same from where an object is rather badly explained, and the largest share of such objects of a batch that is used
# to find mean and deviation: it lacks a component otherwise, to which these must not become used.
RATHER_FAR, MOST_RATHER_FAR = 3.0, 0.1
# Log evidences of a batch, about, of which mean and deviation are found.
MOST_NOTICED = 2000
# Badly explained objects, fewest, for a search.
FEWEST_ROWS = 5
# Largest share by which badly explained objects must have become more for another search.
MOST_MORE = 8.0
# By how many times more objects of a batch are badly explained than of those before, for a search at once.
SURGE = 4.0
# Weight of a batch in averages over the batches before, of log evidences and of shares that are badly explained.
SHARE, SHARE_OF_SURGE = 0.1, 0.3


class LostComponents:
    """Objects of a stream that are kept, and searches for components that it lacks.

    Once some objects were badly explained, components that are needed least are tried on them: EM on the objects that
    were kept, from there and from where the mixture is. What has the higher bound is taken. Before the next
    search half as many such objects again must come, and more after every search without success, unless suddenly many
    of a batch are such ones.

    Args:
        mixture: being fitted to a stream.
        seed: of the objects that are kept.
    """

    def __init__(self, mixture: MixtureOfExperts, seed: int) -> None:
        self.mixture = mixture
        self.generator = Generator("cpu").manual_seed(seed)
        self.well, self.badly = KeptRows(KEPT_ROWS), KeptRows(KEPT_BADLY)
        self.n_waiting, self.n_to_wait, self.n_failed, self.usual_share = 0.0, FEWEST_ROWS, 0, 0.0
        self.mean, self.deviation = 0.0, math.inf

    def __getstate__(self) -> dict[str, object]:
        """Return what a pickle has: a generator as its state."""
        return {**self.__dict__, "generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take over what a pickle has."""
        self.__dict__.update(state)
        self.generator = Generator("cpu")
        own = state["generator"]
        assert isinstance(own, Tensor)
        self.generator.set_state(own)

    def as_kept(self) -> Callable[[], None]:
        """Keep what this object is, and return what puts it back."""
        before, drawn = dict(self.__dict__), self.generator.get_state()
        before |= {"well": self.well.copied(), "badly": self.badly.copied()}

        def put_back() -> None:
            self.__dict__.update(before)
            self.generator.set_state(drawn)

        return put_back

    def search(self, table: Table, log_evidence: Tensor, averages: Averages | None) -> Found | None:
        """Return components that the stream shows, if there are any and others can be spared; keep some of the rows.

        Args:
            table: the batch, or what this process has of it.
            log_evidence: of the objects of this process [B] in nats.
            averages: of the batches before; None if there are none.
        """
        if table.labels is not None:
            return None
        badly = ~(log_evidence >= self.mean - FAR * self.deviation)
        if table.weights is not None:
            badly &= table.weights > 0
        n_badly = number_of_all(table, int(badly.sum()))
        if n_badly:
            self.badly.add(table, badly.nonzero().squeeze(-1), self.generator)
        self.well.add(table, (~badly).nonzero().squeeze(-1) if n_badly else None, self.generator)
        share = n_badly / table.size_of_all
        n_more = n_badly - USUAL * table.size_of_all
        is_surge = n_more >= FEWEST_ROWS and share > SURGE * self.usual_share
        self.n_waiting = max(0.0, self.n_waiting + n_more)
        found = None
        if averages is not None and n_badly and (is_surge or self.n_waiting >= self.n_to_wait):
            found = self._found(averages)
            self.n_failed = 0 if found else self.n_failed + 1
            more = min(MOST_MORE, 0.5 * 2.0 ** max(0, self.n_failed - 2))
            self.n_waiting, self.n_to_wait = 0.0, max(FEWEST_ROWS, int(more * self.badly.n_seen))
        self.usual_share += SHARE_OF_SURGE * (share - self.usual_share)
        self._notice(table, log_evidence[~badly] if n_badly else log_evidence)
        return found

    def _notice(self, table: Table, log_evidence: Tensor) -> None:
        """Let mean and deviation follow the log evidences of well explained objects, unless many are rather bad."""
        # Of a long batch some rows are enough.
        n_well = number_of_all(table, len(log_evidence))
        places = torch.arange(0, n_well, max(1, n_well // MOST_NOTICED), device=log_evidence.device)
        own = picked_of_all(table, log_evidence, places).double()
        n_bad = int((own < self.mean - RATHER_FAR * self.deviation).sum()) if math.isfinite(self.deviation) else 0
        if len(own) < 2 or n_bad > max(1.0, MOST_RATHER_FAR * len(own)):
            return
        mean, deviation = float(own.mean()), float(own.std())
        size = SHARE if math.isfinite(self.deviation) else 1.0
        self.mean += size * (mean - self.mean)
        self.deviation = deviation if size == 1.0 else self.deviation + size * (deviation - self.deviation)

    @staticmethod
    def is_possible(mixture: MixtureOfExperts) -> bool:
        """Return whether components can be moved: sums are all that an update reads, those of each by themselves.

        Args:
            mixture: any.
        """
        if mixture.n_components < 2 or reads_rows(mixture):
            return False
        return bool(mixture.experts.may_begin_anew)

    def _found(self, averages: Averages) -> Found | None:
        """Return components that explain the badly explained objects, if the bound says so."""
        if not len(self.well) or len(self.badly) < FEWEST_ROWS:
            return None
        assert self.well.table is not None and self.badly.table is not None
        both = joined([self.well.table, self.badly.table])
        counts = both.x.new_full((both.size,), self.well.count)
        counts[len(self.well) :] = self.badly.count
        weighted = both._replace(weights=counts if both.weights is None else counts * both.weights)
        scratch = copy.deepcopy(self.mixture)
        least = self.mean - FAR * self.deviation
        found = moved_components(scratch, averages, weighted.with_columns(scratch.experts), least, self.generator)
        if found is not None:
            self._sort_again(both, counts, found.is_lost)
        return found

    def _sort_again(self, table: Table, counts: Tensor, is_lost: Tensor) -> None:
        """Let objects that are explained by now be among the others of that kind."""
        lost, rest = (one.nonzero().squeeze(-1) for one in (is_lost, ~is_lost))
        self.badly = KeptRows(KEPT_BADLY)
        if len(lost):
            self.badly.hold(table.block(lost), counts[lost], self.generator)
        if len(rest):
            self.well = KeptRows(KEPT_ROWS)
            self.well.hold(table.block(rest), counts[rest], self.generator)
