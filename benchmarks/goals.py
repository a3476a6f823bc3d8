"""What must be reached, and what this machine reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.figures import number
from benchmarks.results import Results, figure

MILLION, TEN_MILLION, FEW = "1,000,000 waiting", "10,000,000 waiting", "10,000 waiting"
ONE, TWO, RABBITMQ = "one Redis database", "two Redis servers", "RabbitMQ, confirmed"
BY_ONE, BULK = "one by one", "in bulk"
IDLE = "100,000 waiting"


@dataclass(frozen=True)
class Part:
    """One measurable part of a goal: a figure, and the bound that it must keep."""

    says: str
    value: float | None
    bound: float
    unit: str = ""
    least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.least else self.value <= self.bound

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.says}: not measured" if self.says else "not measured"
        sign = "✓" if self.reached else "✗"
        bound = f"{'≥' if self.least else '≤'} {number(self.bound)}{self.unit}"
        return " ".join(filter(None, (sign, self.says, f"{number(self.value)}{self.unit} ({bound})")))


def section(results: Results) -> str:
    """The table of goals; empty where nothing was measured."""
    if not results:
        return ""
    lines = ["## Goals", "", "| goal | this run | |", "| --- | --- | --- |"]
    for title, parts in goals(results).items():
        lines.append(f"| {title} | {' · '.join(map(str, parts))} | {verdict(parts)} |")
    note = (
        "Lateness in this table is from due until the message is in the broker's queue; where it is compared "
        "with `countdown`'s, it is from due until the job runs, for both."
    )
    return "\n".join([*lines, "", note])


def verdict(parts: Sequence[Part]) -> str:
    if any(part.reached is False for part in parts):
        return "**missed**"
    return "reached" if all(part.reached for part in parts) else "not measured"


def goals(results: Results) -> dict[str, list[Part]]:
    """Each goal's title, and its parts."""

    def get(scenario: str, case: str, who: str, name: str) -> float | None:
        return figure(results, scenario, case, who, name)

    def late(case: str, who: str) -> float | None:
        return get("lateness", case, who, "p99")

    def rate(case: str, who: str = "ours") -> float | None:
        return get("burst", case, who, "rate")

    def each(case: str, who: str) -> float | None:
        return get("scheduling", case, who, "rate")

    def idle(name: str) -> float | None:
        return _apply(
            lambda ours, stock: max(0.0, ours - stock),
            get("idle", IDLE, "ours", name),
            get("idle", IDLE, "stock", name),
        )

    addbulk = each(BULK, "bullmq")
    return {
        "lateness p99, 100/s, a million waiting": [
            Part("in the queue", late(MILLION, "ours-queue"), 3, " ms"),
            Part(
                "runs, as against `countdown`'s own",
                _ratio(late(MILLION, "ours-runs"), late(MILLION, "countdown")),
                1,
                " ×",
            ),
            Part(
                "tuned Redis's events, as against it",
                _ratio(late(MILLION, "bare-tuned"), late(MILLION, "ours-queue")),
                1_000,
                " ×",
                least=True,
            ),
        ],
        "the same with ten million, as against ten thousand": [
            Part("in the queue", _ratio(late(TEN_MILLION, "ours-queue"), late(FEW, "ours-queue")), 2, " ×")
        ],
        "burst, store and broker in one Redis database": [
            Part("", rate(ONE), 50_000, "/s", least=True),
            Part(
                "as against `apply_async` in a loop",
                _ratio(rate(ONE), rate(ONE, "loop")),
                25,
                " ×",
                least=True,
            ),
        ],
        "burst, store and broker apart": [
            Part("Redis", rate(TWO), 15_000, "/s", least=True),
            Part("as against the loop", _ratio(rate(TWO), rate(TWO, "loop")), 7, " ×", least=True),
            Part("RabbitMQ", rate(RABBITMQ), 8_000, "/s", least=True),
        ],
        "lateness p99 of a steady 100/s while such a burst drains": [
            Part("one database", get("fairness", ONE, "ours", "p99"), 100, " ms"),
            Part("apart", get("fairness", TWO, "ours", "p99"), 100, " ms"),
        ],
        "schedule one by one": [
            Part(
                "as against `countdown`",
                _ratio(each(BY_ONE, "ours"), each(BY_ONE, "countdown")),
                2,
                " ×",
                least=True,
            )
        ],
        "schedule in bulk, one process": [
            Part(
                "as against `countdown`",
                _ratio(each(BULK, "ours"), each(BY_ONE, "countdown")),
                10,
                " ×",
                least=True,
            ),
            Part("as against BullMQ's `addBulk`", _ratio(each(BULK, "ours"), addbulk), 1, " ×", least=True),
        ],
        "Redis memory a waiting timer, a million waiting": [
            Part("", get("memory", "waiting", "ours", "redis"), 400, " B")
        ],
        "our processes' memory does not grow": [
            # a page here and there is no growth with the number
            Part("", get("memory", "waiting", "ours", "workers"), 1, " B a timer")
        ],
        "idle, beyond a stock worker, 100,000 waiting": [
            Part("CPU", idle("cpu"), 0.1, " % of a core"),
            Part("Redis", idle("commands"), 0.1, " commands/s"),
        ],
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return _apply(lambda a, b: a / b if b else None, one, other)


def _apply(
    function: Callable[[float, float], float | None], one: float | None, other: float | None
) -> float | None:
    return None if one is None or other is None else function(one, other)
