"""The ledger's verdicts on made-up records: a suite that can't fail proves nothing."""

from __future__ import annotations

import pytest

from tests.chaos.faults import CATALOGUE, plan
from tests.chaos.ledger import Happening, Ledger, Promise, Run, judge
from tests.chaos.stage import Tap

DUE = 1000.0


def promise(
    fate: str = "scheduled", *, id: str = "a", least: int = 1, most: int = 1, instead_of: str = ""
) -> Promise:
    return Promise(id, f"label {id}", fate, DUE, DUE, least, most, instead_of)


def ran(*times: float, id: str = "a") -> list[Run]:
    return [Run(at, id, f"label {id}") for at in times]


def fault(begin: float, end: float, *, doubles: bool = True) -> Happening:
    return Happening("Killed", "worker 0", begin, end, doubles)


def verdict(ledger: Ledger) -> tuple[bool, ...]:
    return tuple(map(bool, (ledger.lost, ledger.unexplained, ledger.forbidden, ledger.early, ledger.unknown)))


KEPT = (False, False, False, False, False)
LOST = (True, False, False, False, False)
UNEXPLAINED = (False, True, False, False, False)
FORBIDDEN = (False, False, True, False, False)
EARLY = (False, False, False, True, False)
UNKNOWN = (False, False, False, False, True)


@pytest.mark.parametrize(
    ("promises", "runs", "wanted"),
    [
        ([promise()], ran(DUE + 1), KEPT),
        ([promise()], [], LOST),
        ([promise()], ran(DUE, DUE + 1), UNEXPLAINED),
        ([promise()], ran(DUE - 0.1), EARLY),
        ([], ran(DUE), UNKNOWN),
        ([promise("cancelled", least=0, most=0)], [], KEPT),
        ([promise("cancelled", least=0, most=0)], ran(DUE), FORBIDDEN),
        ([promise("refused", least=0, most=0)], ran(DUE), FORBIDDEN),
        ([promise("replaced", least=0, most=0)], ran(DUE), FORBIDDEN),
        ([promise("uncertain", least=0)], [], KEPT),
        ([promise("uncertain", least=0)], ran(DUE), KEPT),
        ([promise("uncertain", least=0)], ran(DUE, DUE + 1), UNEXPLAINED),
        ([promise("rescheduled", most=2)], ran(DUE, DUE + 1), KEPT),
        ([promise("rescheduled", most=2)], ran(DUE, DUE + 1, DUE + 2), UNEXPLAINED),
    ],
)
def test_each_verdict(promises: list[Promise], runs: list[Run], wanted: tuple[bool, ...]) -> None:
    ledger = judge(promises, runs)
    assert verdict(ledger) == wanted
    assert bool(ledger.broken) == (wanted != KEPT)


def test_one_of_two_that_may_have_replaced_each_other_runs() -> None:
    either = [promise("uncertain", least=0), promise("uncertain", id="b", least=0, instead_of="a")]
    assert verdict(judge(either, ran(DUE))) == KEPT
    assert verdict(judge(either, ran(DUE, id="b"))) == KEPT
    assert verdict(judge(either, [])) == LOST


@pytest.mark.parametrize(
    ("faults", "published", "explained"),
    [
        ([fault(DUE + 1, DUE + 2)], [DUE, DUE + 6], True),
        ([fault(DUE + 1, DUE + 2, doubles=False)], [DUE, DUE + 6], False),
        ([fault(DUE + 8, DUE + 9)], [DUE, DUE + 6], False),  # after both
        ([fault(DUE - 9, DUE - 8)], [DUE, DUE + 6], False),  # before both
        (
            [fault(DUE + 1, DUE + 2)],
            [DUE],
            False,
        ),  # enqueued once: a worker ran it twice, or somebody else sent it
        ([fault(DUE + 1, DUE + 2)], [DUE, DUE + 3, DUE + 6], False),  # explains the second, not the third
    ],
)
def test_what_explains_a_double(faults: list[Happening], published: list[float], explained: bool) -> None:
    ledger = judge([promise()], ran(*published, DUE + 7)[: max(2, len(published))], faults, {"a": published})
    assert bool(ledger.doubled) == explained
    assert bool(ledger.unexplained) != explained


def test_what_explains_a_third_run_of_one_that_was_moved_while_it_was_published() -> None:
    """Two runs are promised; the fault lies before the second or before the third."""
    moved = promise("rescheduled", most=2)
    for begin in (DUE + 1, DUE + 11):
        published = [DUE, DUE + 6, DUE + 16]
        assert not judge([moved], ran(*published), [fault(begin, begin + 1)], {"a": published}).broken
    assert judge([moved], ran(*published), [fault(DUE - 9, DUE - 8)], {"a": published}).unexplained


def test_lateness_is_told_apart() -> None:
    promises = [promise(id="in"), Promise("out", "out", "scheduled", DUE + 100, DUE + 100)]
    runs = ran(DUE + 3, id="in") + ran(DUE + 101, id="out")
    ledger = judge(promises, runs, [fault(DUE + 1, DUE + 2)])
    assert (ledger.late.count, ledger.late.max) == (2, 3)
    assert (ledger.late_in_faults.max, ledger.late_outside.max) == (3, 1)


def test_the_plan_is_the_seeds() -> None:
    def told(seed: int) -> list[tuple[float, str, float, str]]:
        return [(each.at, each.fault.name, each.fault.lasts, each.fault.target) for each in plan(seed, 300)]

    assert told(1) == told(1)
    assert told(1) != told(2)
    assert {name for _, name, _, _ in told(1)} == {kind.__name__ for kind in CATALOGUE}


@pytest.mark.parametrize(
    "message",
    [
        b'..."headers": {"id": "%s", "root_id": "%s"}...',
        b"...\x02idS\x00\x00\x00\x24%s\x07root_idS\x00\x00\x00\x24%s...",
    ],
)
def test_the_tap_reads_each_id_once_wherever_the_data_was_divided(message: bytes) -> None:
    id = "0f0f0f0f-1111-4222-8333-444444444444"
    data = message % (id.encode(), id.encode()) + b"." * 100
    for division in range(len(data)):
        tap = Tap()
        tap("a connection", data[:division])
        tap("a connection", data[division:])
        assert [len(times) for times in tap.published.values()] == [1]
        assert list(tap.published) == [id]
