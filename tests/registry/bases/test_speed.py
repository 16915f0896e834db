"""How fast a download is: steady, and nothing of what came before."""

from __future__ import annotations

from registry.bases.speed import Speed, per_second

MB = 10**6


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    speed = Speed(clock)
    seen = []
    for tick in range(300):
        clock.now += 0.1
        speed.add(4 * MB if tick % 2 else 0)  # it comes in bursts, 20 MB a second
        seen.append(speed.now)
    assert seen[:15] == [None] * 15
    steady = [found for found in seen[30:] if found is not None]
    assert max(steady) - min(steady) < 2 * MB
    assert round(steady[-1] / MB) == 20
    for _ in range(120):  # half as fast from now on
        clock.now += 0.1
        speed.add(MB)
    assert speed.now is not None
    assert round(speed.now / MB) == 10
    clock.now += 40  # nothing came meanwhile
    speed.add(MB)
    assert speed.now is None
    for _ in range(30):
        clock.now += 0.1
        speed.add(MB)
    assert speed.now is not None
    assert round(speed.now / MB) == 10


def test_it_is_said_in_two_digits() -> None:
    assert [per_second(one) for one in (38_214_656, 1_249_000, 512)] == [
        "38 MB/s",
        "1.2 MB/s",
        "510 B/s",
    ]
