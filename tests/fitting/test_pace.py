"""What a run does next, and when it ends, as its bounds say."""

from mixpyro.fitting import pace
from mixpyro.fitting.pace import Pace, Step
from mixpyro.fitting.runs import Trace


def test_one_small_gain_does_not_end_a_run() -> None:
    trace = Trace()
    bounds = [-10.0 * 0.9**n for n in range(20)]
    for bound in bounds:
        trace.record(bound, 1e-6)
    assert trace.pace.extrapolates
    trace.record(bounds[-1] + 1e-9, 1e-6, Step.EXTRAPOLATED)
    assert not trace.has_ended
    assert not trace.pace.extrapolates
    trace.record(trace.bounds[-1] + 1e-3, 1e-6)
    assert not trace.has_ended
    assert trace.pace.extrapolates


def test_a_run_ends_by_the_slowest_rate_that_was_seen() -> None:
    for rate, ends in ((0.0, True), (0.999, False)):
        trace = Trace([-10.0 * 0.9**n for n in range(20)], pace=Pace(n_plain=20, is_near=True))
        trace.record(trace.bounds[-1] + 1e-5, 1e-6, Step.EXTRAPOLATED)
        trace.record(trace.bounds[-1] + 1e-9, 1e-5, Step.EXTRAPOLATED)
        for gain in (2e-8, 1e-8):
            trace.pace.see_rate(rate)
            trace.record(trace.bounds[-1] + gain, 1e-5)
        assert trace.has_ended == ends


def test_extrapolations_wait_where_a_saddle_is_near() -> None:
    one = Pace(n_plain=20, is_near=True, is_checked=True)
    one.see_rate(1.01)
    assert not one.extrapolates
    assert one.n_wanted == 2 * pace.N_GAINS
    assert one.rate == pace.LARGEST


def test_a_plateau_is_not_extrapolated() -> None:
    """Gains that grow lead away from a saddle."""
    trace = Trace()
    for n in range(30):
        trace.record(-10.0 + 1e-3 * 1.05**n, 1e-9)
        assert not trace.pace.is_watched
    assert not trace.has_ended


def test_a_fast_run_is_not_extrapolated() -> None:
    trace = Trace()
    while not trace.has_ended:
        trace.record(-10.0 * 0.5 ** len(trace.bounds), 1e-9)
        assert not trace.pace.is_watched
    assert len(trace.bounds) < 40


def test_plain_iterations_come_after_a_state_that_was_not_taken() -> None:
    trace = Trace([-10.0 * 0.9**n for n in range(20)], pace=Pace(n_plain=20, is_near=True))
    trace.record(-20.0, 1e-9, Step.REJECTED)
    assert trace.bounds[-1] == trace.bounds[-2]
    for n in range(pace.N_GAINS):
        assert not trace.pace.extrapolates
        trace.record(trace.bounds[-1] + 0.1 * 0.9**n, 1e-9)
    assert trace.pace.extrapolates
