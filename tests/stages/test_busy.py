"""How a verifier's time is reckoned: what is under way at the same time counts once."""

import time

from pipeline.stages.busy import Busy


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_waiting_is_the_time_in_which_a_video_is_decoded_and_nothing_is_asked() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy.decoding():
        clock.now = 5.0  # nothing could have been asked yet
    with busy.asking(), busy.decoding(), busy.asking():
        clock.now = 15.0
    clock.now = 40.0  # nothing to be replayed
    with busy.decoding(), busy.decoding():
        clock.now = 41.0
    with busy.asking():
        clock.now = 45.0
    busy.waited(1.5)
    assert busy.taken() == (12.5, 2.5)
    assert busy.taken() == (0.0, 0.0)


def test_an_error_ends_what_was_under_way() -> None:
    clock = Clock()
    busy = Busy(clock)
    try:
        with busy.asking():
            clock.now = 1.0
            raise ValueError
    except ValueError:
        clock.now = 9.0
    assert busy.taken() == (1.0, 0.0)


def test_real_time_passes() -> None:
    busy = Busy()
    with busy.asking():
        time.sleep(0.02)
    assert 0.02 <= busy.taken()[0] < 5.0
