"""The ledger as people read it: ours and the peer's, side by side."""

from __future__ import annotations

from collections import Counter

from tests.chaos.ledger import Lateness
from tests.chaos.run import Report
from tests.chaos.stage import LEASE, WORKERS

FATES = ("scheduled", "rescheduled", "cancelled", "replaced", "uncertain", "refused")


def table(report: Report) -> str:
    sides = [("this package", report.ours)] + ([("countdown", report.peer)] if report.peer else [])
    rows = [("", *(name for name, _ in sides))]
    rows += [(fate, *(f"{ledger.fates.get(fate, 0):,}" for _, ledger in sides)) for fate in FATES]
    rows += [
        ("executed", *(f"{ledger.executed:,}" for _, ledger in sides)),
        ("lost", *(f"{len(ledger.lost):,}" for _, ledger in sides)),
        ("doubled, explained", *(f"{sum(ledger.doubled.values()):,}" for _, ledger in sides)),
        ("doubled, unexplained", *(f"{len(ledger.unexplained):,}" for _, ledger in sides)),
        ("ran though cancelled …", *(f"{len(ledger.forbidden):,}" for _, ledger in sides)),
        ("early", *(f"{len(ledger.early):,}" for _, ledger in sides)),
        ("late: p50, p99, max", *(_late(ledger.late) for _, ledger in sides)),
        ("  in faults and 10 s after", *(_late(ledger.late_in_faults) for _, ledger in sides)),
        ("  outside", *(_late(ledger.late_outside) for _, ledger in sides)),
        ("in the queue late", *(_late(ledger.enqueued_late) for _, ledger in sides)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["", "  ".join(f"{name} {number}" for name, number in report.versions.items())]
    setting = report.setting
    lines.append(
        f"seed {setting.seed}, {setting.timers:,} timers, delays up to {setting.delay:.0f} s, "
        f"{setting.seconds:.0f} s of faults, broker {setting.broker}, {report.seconds:.0f} s in all"
    )
    lines.append(
        f"store: AOF, appendfsync always; {WORKERS} workers, expiry_lease={LEASE:.0f} s; the clocks of "
        "one of them and of the users of a quarter of the timers an hour wrong"
    )
    lines.append(
        f"countdown: 3 workers of 4 threads, task_acks_late={setting.peer_acks_late}, "
        f"visibility_timeout={setting.visibility} s, unacked_restore_throttle=1, unacked_mutex_expire=20, "
        "socket_timeout=5 s"
        if setting.peer
        else "without a peer"
    )
    lines.append("")
    for name, *cells in rows:
        columns = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *columns]).rstrip())
    lines.append("")
    lines += _counted("faults", Counter(happening.name for happening in report.happened))
    lines += _counted("messages still in the broker of countdown at the end", report.peer_left)
    for name, ledger in sides:
        lines += _counted(f"doubled ({name}), by", ledger.doubled)
    lines += _counted("expiry workers said", report.said)
    lines += _counted("workers that ended by themselves, and were started again", report.fell)
    for side, errors in report.errors.items():
        lines += [f"calls that raised ({side}): {count} × {error}" for error, count in sorted(errors.items())]
    lines.append("")
    lines += [f"BROKEN: {line}" for line in report.ours.broken] or ["every promise was kept"]
    return "\n".join(lines)


def _late(late: Lateness) -> str:
    if not late.count:
        return "-"
    return f"{late.p50 * 1000:,.0f} ms, {late.p99:,.2f} s, {late.max:,.1f} s"


def _counted(what: str, counts: dict[str, int]) -> list[str]:
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)
    return [f"{what}: {told}"] if told else []
