"""Sharing the machine with people: when training pauses, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from backends.base import Evaluated, Started, Stepped, Tokenizing
from tests.training.build import claim, make_job
from training import queue
from training.attempt import runner
from training.attempt.pacing import COOLING_LIMIT_S, MEMORY_LIMIT_S, Pace, Sharing
from training.machine import neighbours, readings
from training.machine.readings import Reading
from training.models import TrainingJob

pytestmark = pytest.mark.any_database

STEP = Stepped(1, 2.0, 1e-4, 1.0, 10, 10.0, 0)


class World:
    """A clock that advances only by sleeping, a machine, and a chat that ends at `chat_until`."""

    def __init__(self, reading: Reading | None = None, chat_until: float = 0.0) -> None:
        self.now = 0.0
        self.reading = reading or Reading()
        self.chat_until = chat_until
        self.reasons: list[str] = []
        self.held = 0.0
        self.checks = 0

    def held_bytes(self) -> int:
        return 0

    busy_bytes = held_bytes

    def someone_waits(self) -> bool:
        return self.now < self.chat_until

    def make_room(self, nbytes: int) -> list[str]:
        return []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def hold(self, reason: str, seconds: float) -> None:
        self.held += seconds
        if not self.reasons or self.reasons[-1] != reason:
            self.reasons.append(reason)

    def check_requests(self) -> None:
        self.checks += 1

    def pace(self, **sharing: Any) -> Pace:
        return Pace(
            self.hold,
            self.check_requests,
            sharing=Sharing(**sharing),
            read=lambda: self.reading,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def step(self, pace: Pace, seconds: float = 2.0) -> float:
        """A step of that many seconds; returns how long training paused after it."""
        self.now += seconds
        return pace.after(STEP)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(neighbours, "_present", world)
    return world


def test_a_quiet_machine_is_used(world: World) -> None:
    pace = world.pace()
    assert [world.step(pace) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert world.reasons == []


def test_training_waits_until_the_chat_is_over(world: World) -> None:
    world.chat_until = 5.0
    pace = world.pace(chat_s=10)
    assert world.step(pace) == pytest.approx(3.0, abs=0.2)
    assert world.reasons == ["someone is chatting", ""]
    assert world.held == pytest.approx(3.0, abs=0.2)
    assert world.step(pace) == 0.0


def test_an_endless_chat_cannot_starve_training(world: World) -> None:
    world.chat_until = 1e9
    pace = world.pace(chat_s=4)
    assert world.step(pace) == pytest.approx(4.0, abs=0.2)
    assert world.step(pace) == pytest.approx(4.0, abs=0.2)


def test_waiting_for_chats_can_be_switched_off(world: World) -> None:
    world.chat_until = 1e9
    assert world.step(world.pace(chat_s=0)) == 0.0


def test_low_memory_pauses_training_for_a_while(world: World) -> None:
    world.reading = Reading(memory_low=True)
    assert world.step(world.pace()) == pytest.approx(MEMORY_LIMIT_S, abs=0.2)
    assert world.reasons == ["memory is low", ""]


@pytest.mark.parametrize(("mode", "held"), [("run", 0.0), ("slow", 2.0)])
def test_on_battery(world: World, mode: str, held: float) -> None:
    world.reading = Reading(on_battery=True)
    assert world.step(world.pace(on_battery=mode)) == pytest.approx(held, abs=0.2)


def test_a_job_that_pauses_on_battery_waits_until_plugged_in(world: World) -> None:
    world.reading = Reading(on_battery=True)
    pace = world.pace(on_battery="pause")
    sleep = world.sleep

    def plugged_in_later(seconds: float) -> None:
        sleep(seconds)
        if world.now > 600:
            world.reading = Reading()

    pace._sleep = plugged_in_later
    assert world.step(pace) == pytest.approx(600, abs=10)
    assert world.reasons[0] == "on battery; plug in to continue"


@pytest.mark.parametrize(("mode", "held"), [("run", 0.0), ("slow", 2.0), ("pause", 2.0)])
def test_low_power_mode_is_a_wish_for_half_the_speed(world: World, mode: str, held: float) -> None:
    world.reading = Reading(low_power=True)
    assert world.step(world.pace(on_battery=mode)) == pytest.approx(held, abs=0.2)
    assert not held or world.reasons == ["in Low Power Mode, at half speed", ""]


@pytest.mark.parametrize(("heat", "held"), [(0, 0.0), (1, 1.0), (2, 4.0)])
def test_a_hot_machine_cools_down_between_steps(world: World, heat: int, held: float) -> None:
    world.reading = Reading(heat=heat)
    assert world.step(world.pace()) == pytest.approx(held, abs=0.2)


def test_cooling_down_has_a_limit(world: World) -> None:
    world.reading = Reading(heat=2)
    assert world.step(world.pace(), 1000) == pytest.approx(COOLING_LIMIT_S, abs=0.2)


def test_a_request_to_stop_ends_the_wait(world: World) -> None:
    world.chat_until = 1e9
    pace = world.pace(chat_s=100)

    def stop() -> None:
        if world.now > 5:
            raise runner.Stopped("now")

    pace._check_requests = stop
    with pytest.raises(runner.Stopped):
        world.step(pace)
    assert world.now < 8


def test_only_steps_are_followed_by_a_wait(world: World) -> None:
    world.chat_until = 1e9
    pace = world.pace()
    assert pace.after(Started(0, 10, 1, 1)) == 0.0
    assert pace.after(Evaluated(1, "valid", 2.0)) == 0.0
    assert pace.after(Tokenizing("train", 1, 9)) > 0.0  # on all cores, and may take minutes


@pytest.mark.django_db
def test_a_wait_is_recorded_and_shown_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    chatty = World(chat_until=1e9)
    monkeypatch.setattr(neighbours, "_present", chatty)
    monkeypatch.setattr("training.attempt.progress.WRITE_EVERY_S", 0.0)
    settings.TRAINING_YIELD_S = 0.2
    make_job(iters=3, warmup=0)
    job = claim()
    seen: list[tuple[str, bool]] = []
    beats = []
    write = TrainingJob.beat

    def watch(self: TrainingJob, *args: Any, **columns: Any) -> None:
        write(self, *args, **columns)
        row = TrainingJob.objects.get(pk=self.pk)
        seen.append((row.yielding, row.yield_text.startswith("paused 0 s: someone")))
        beats.append(row.heartbeat_at)

    monkeypatch.setattr(TrainingJob, "beat", watch)
    runner.run(job.pk, job.lease, lambda: "")
    job.refresh_from_db()
    assert ("someone is chatting", True) in seen
    assert (job.status, job.yielding, job.yielding_since) == ("completed", "", None)
    assert 0.5 < job.yielded_s < 3
    assert beats == sorted(beats)


@pytest.mark.django_db
def test_a_pause_takes_effect_while_training_waits(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    class Chat(World):
        def someone_waits(self) -> bool:
            TrainingJob.objects.filter(paused=False).update(paused=True)
            return True

    monkeypatch.setattr(neighbours, "_present", Chat())
    settings.TRAINING_YIELD_S = 30.0
    make_job()
    job = claim()
    runner.run(job.pk, job.lease, lambda: "")
    job.refresh_from_db()
    assert job.is_paused
    assert queue.claim() is None


# ------------------------------------------------------------------------ readings


@pytest.mark.parametrize(
    ("sensors", "heat"),
    [
        ([], 0),
        ([(45.0, None), (60.0, 100.0)], 0),
        ([(98.0, 100.0)], 1),
        ([(45.0, 90.0), (101.0, 100.0)], 2),
        ([(80.0, 0.0)], 0),
    ],
)
def test_heat_is_read_from_sensors(sensors: list[tuple[float, float | None]], heat: int) -> None:
    assert readings.sensor_heat(sensors) == heat


@pytest.mark.parametrize(("printed", "level"), [("1\n", 1), ("2\n", 2), ("4\n", 4), ("", 1)])
def test_pressure_is_read_from_sysctl(printed: str, level: int) -> None:
    assert readings.pressure_level(printed) == level


def test_memory_is_scarce_by_its_share() -> None:
    assert readings.is_scarce(1 * 2**30, 48 * 2**30)
    assert not readings.is_scarce(3 * 2**30, 48 * 2**30)


def test_this_machine_can_be_read() -> None:
    assert isinstance(readings.read(), Reading)


def test_out_of_memory_kills_are_counted() -> None:
    assert readings.oom_kill_count("pgmajfault 5\noom_kill 12\nnuma_hit 3\n") == 12
    assert readings.oom_kill_count("pgmajfault 5\n") == 0
