"""Generate the starter data set: a request in plain English → a calendar entry as exact JSON.

`python -m registry.datasets.starter.calendar [FOLDER]` rewrites train.jsonl, valid.jsonl and test.jsonl.
The same code gives the same bytes. A held-out request never repeats a request of the other
splits, nor their combination of event, person, place and time.

An entry has `title`, `day` and `start` ("3:30 pm"), then `with`, `place` and `minutes`
where the request states them.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

SYSTEM = "Turn the request into calendar JSON."
SPLITS = {"test": 50, "valid": 50, "train": 900}
SEED = 20

EVENTS = (
    "a dentist appointment", "a haircut", "a yoga class", "a job interview", "a piano lesson",
    "a team lunch", "a budget review", "a design workshop", "a board meeting", "a phone call",
    "a video call", "a birthday party", "a book club", "a tennis match", "a doctor appointment",
    "a project review", "a sales meeting", "a parent meeting", "a swimming lesson", "a car service",
    "a wine tasting", "a city tour", "a chess game", "a study group", "a film night",
    "an eye test", "an art class", "an all-hands meeting", "coffee", "lunch", "dinner", "breakfast",
    "drinks", "choir practice", "football training", "the house viewing", "the team meeting",
    "the quarterly review", "the garden party", "the press briefing",
)  # fmt: skip
PEOPLE = (
    "Anna", "Ben", "Carlos", "Diana", "Emma", "Frank", "Grace", "Hannah", "Ian", "Julia", "Kevin",
    "Laura", "Marco", "Nina", "Oliver", "Peter", "Rachel", "Sam", "Tom", "Victor", "Maria", "David",
    "Alice", "Bob", "Sarah", "James", "Lucy", "Michael", "Kate", "Daniel",
)  # fmt: skip
PLACES = (
    "in Berlin", "in Paris", "in London", "in Boston", "in room 2", "in room 5", "in room 7",
    "in the library", "in the park", "in the office", "in the garden", "in the main hall",
    "at the town hall", "at the gym", "at the station", "at the museum", "at the beach",
    "at the hotel", "at the school", "at the airport", "at home", "at the old mill",
    "at the city library", "at the blue door cafe", "at the corner cafe",
)  # fmt: skip
DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
    "today", "tomorrow",
)  # fmt: skip
OPENERS = (
    "Schedule {}", "Book {}", "Please book {}", "Add {}", "Please add {} to my calendar",
    "Put {} in my calendar", "Set up {}", "Can you set up {}", "Could you schedule {}", "I have {}",
    "I need {}", "Plan {}", "Remind me of {}", "Let's have {}", "We have {}", "New entry: {}",
    "Make time for {}", "{}",
)  # fmt: skip
MINUTES = {
    15: ("for 15 minutes", "for 15 min"),
    30: ("for 30 minutes", "for 30 min", "for half an hour"),
    45: ("for 45 minutes", "for 45 min"),
    60: ("for an hour", "for one hour", "for 1 hour"),
    90: ("for 90 minutes", "for 90 min", "for an hour and a half"),
    120: ("for two hours", "for 2 hours"),
}
WORDS = (
    "twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What the answer must say. `minutes`, `person` and `place` may be absent."""

    title: str
    day: str
    hour: int
    minute: int
    person: str | None
    place: str | None
    minutes: int | None

    @property
    def start(self) -> str:
        return f"{_twelve(self.hour)}:{self.minute:02} {_half(self.hour)}"

    @property
    def combination(self) -> tuple[str | None, ...]:
        """What a held-out entry may not share with another split."""
        return (self.title, self.person, self.place, self.start)

    def json(self) -> str:
        fields = {
            "title": self.title,
            "day": self.day,
            "start": self.start,
            "with": self.person,
            "place": self.place,
            "minutes": self.minutes,
        }
        stated = {key: value for key, value in fields.items() if value is not None}
        return json.dumps(stated, separators=(",", ":"))


def splits() -> dict[str, list[dict[str, list[dict[str, str]]]]]:
    """All three splits as chat examples; the held-out ones are drawn first."""
    draw = random.Random(SEED)  # noqa: S311 (a data set, not a secret)
    requests: set[str] = set()
    combinations: set[tuple[str | None, ...]] = set()
    result: dict[str, list[dict[str, list[dict[str, str]]]]] = {}
    for split, size in SPLITS.items():
        examples: list[dict[str, list[dict[str, str]]]] = []
        result[split] = examples
        while len(examples) < size:
            entry, event, place = _entry(draw)
            request = _request(draw, entry, event, place)
            if request.lower() in requests or entry.combination in combinations:
                continue
            requests.add(request.lower())
            combinations.add(entry.combination)
            examples.append(_chat(request, entry))
    return result


def write(folder: Path) -> None:
    """Write one JSON-lines file per split into `folder`."""
    for split, examples in splits().items():
        lines = "".join(json.dumps(example) + "\n" for example in examples)
        (folder / f"{split}.jsonl").write_text(lines)


def _chat(request: str, entry: Entry) -> dict[str, list[dict[str, str]]]:
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": request},
            {"role": "assistant", "content": entry.json()},
        ]
    }


def _entry(draw: random.Random) -> tuple[Entry, str, str]:
    """An entry, with the event and the place as a request words them ("a haircut")."""
    event, place = draw.choice(EVENTS), draw.choice(PLACES)
    noon = draw.random() < 0.08
    entry = Entry(
        title=_bare(event),
        day=draw.choice(DAYS),
        hour=12 if noon else draw.randint(7, 21),
        minute=0 if noon else draw.choice((0, 0, 0, 30, 30, 15, 45)),
        person=draw.choice(PEOPLE) if draw.random() < 0.6 else None,
        place=_bare(place.partition(" ")[2] if place != "at home" else "home")
        if draw.random() < 0.6
        else None,
        minutes=draw.choice(tuple(MINUTES)) if draw.random() < 0.4 else None,
    )
    return entry, event, place


def _bare(words: str) -> str:
    """Without its article."""
    first, _, rest = words.partition(" ")
    return rest if first in ("a", "an", "the") else words


def _request(draw: random.Random, entry: Entry, event: str, place: str) -> str:
    """One of very many ways to ask for `entry`."""
    near = [f"with {entry.person}"] if entry.person else []
    when = [_day(draw, entry.day), _time(draw, entry.hour, entry.minute)]
    draw.shuffle(when)
    extra = ([place] if entry.place else []) + (
        [draw.choice(MINUTES[entry.minutes])] if entry.minutes else []
    )
    draw.shuffle(extra)
    order = draw.random()
    if order < 0.55:
        parts = [*near, *when, *extra]
    elif order < 0.8:
        parts = [*near, *extra, *when]
    else:
        parts = [*when, *near, *extra]
    text = draw.choice(OPENERS).format(" ".join([event, *parts]))
    if order > 0.97:
        text = " ".join([*when, event, *near, *extra])
    return _finish(draw, text)


def _finish(draw: random.Random, text: str) -> str:
    style = draw.random()
    if style < 0.2:
        return text.lower()
    text = text[0].upper() + text[1:]
    question = text.startswith(("Can ", "Could "))
    ending = "?" if question else draw.choice((".", ".", "", "", " please.", ", thanks."))
    return text + ending


def _day(draw: random.Random, day: str) -> str:
    if day in ("today", "tomorrow"):
        return day
    return draw.choice((f"on {day}", f"on {day}", f"next {day}", f"this {day}", f"on {day[:3]}"))


def _time(draw: random.Random, hour: int, minute: int) -> str:
    """A time as people write it; `hour` is 7 to 21."""
    if (hour, minute) == (12, 0) and draw.random() < 0.9:
        return "at noon"
    style = draw.random()
    if style < 0.08:
        return f"at {hour}:{minute:02}"
    if style < 0.3 and minute in (0, 30) and hour != 12:
        return _spoken(draw, hour, minute)
    return _clock(draw, hour, minute)


def _clock(draw: random.Random, hour: int, minute: int) -> str:
    """ "at 3 pm", "at 3:30pm" and so on."""
    half = _half(hour)
    half = draw.choice((half, half, half.upper(), f"{half[0]}.{half[1]}."))
    digits = f"{_twelve(hour)}" + (f":{minute:02}" if minute else "")
    return f"at {digits}{draw.choice((' ', ' ', ''))}{half}"


def _spoken(draw: random.Random, hour: int, minute: int) -> str:
    """ "at half past three in the afternoon" and so on, full and half hours only."""
    part = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    number = draw.choice((WORDS[hour % 12], str(_twelve(hour))))
    return f"at {'half past ' if minute else ''}{number} in the {part}"


def _twelve(hour: int) -> int:
    """The hour on a twelve-hour clock."""
    return (hour - 1) % 12 + 1


def _half(hour: int) -> str:
    return "am" if hour < 12 else "pm"


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
