"""One run: the stage is set, the load goes, faults come and go, calm returns, and the ledger is read."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.chaos import load
from tests.chaos.faults import CATALOGUE, GAP, Fault, Planned, plan
from tests.chaos.ledger import Happening, Ledger, Promise, Run, judge
from tests.chaos.sabotage import SABOTAGE
from tests.chaos.stage import Setting, Stage

#: Seconds after the last due time within which everything must have run.
DRAIN = 60.0
#: Seconds within which a fault must have been undone.
UNDONE = 120.0

#: What expiry workers say when they mend something, by what it means.
SAID = {
    "recovered after a lease": r"recovered (\d+) timers",
    "answer of the broker lost": r"answer to (\d+) messages was lost",
    "not published after a stall": r"(\d+) timers were not published: this worker stalled",
    "postponed": r"(\d+) timers could not be published",
}
UNEXPECTED = re.compile(r"unexpected error.*?(?=\n\[|\Z)", re.DOTALL)


@dataclass
class Report:
    """What a run showed."""

    setting: Setting
    versions: dict[str, str]
    ours: Ledger
    peer: Ledger | None
    happened: list[Happening]
    said: dict[str, int] = field(default_factory=dict)
    errors: dict[str, dict[str, int]] = field(default_factory=dict)
    fell: dict[str, int] = field(default_factory=dict)
    peer_left: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "setting": asdict(self.setting),
            "versions": self.versions,
            "seconds": self.seconds,
            "ours": self.ours.as_dict(),
            "peer": self.peer.as_dict() if self.peer else None,
            "faults": [asdict(happening) for happening in self.happened],
            "said": self.said,
            "errors": self.errors,
            "left in the peer's broker": self.peer_left,
            "ended by themselves": self.fell,
        }


def run(
    setting: Setting,
    folder: Path,
    *,
    kinds: Sequence[type[Fault]] = CATALOGUE,
    gap: float = GAP,
    sabotage: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Report:
    """Run once.

    Arguments:
        kinds: the faults that may come.
        gap: seconds from one to the next, on average.
        sabotage: `lose`, `double`: what is done behind the package's back, to see that the ledger finds it.
        say: told of everything as it happens.
    """
    began = time.monotonic()
    stage = Stage(setting, folder)
    try:
        stage.start()
        say(f"servers and workers up after {time.monotonic() - began:.0f} s")
        stage.start_load()
        for kind in sabotage:
            threading.Thread(target=SABOTAGE[kind], args=(stage,), daemon=True).start()
        happened = Chaos(stage, plan(setting.seed, setting.seconds, kinds, gap), say).run()
        say("calm")
        stage.calm_down()
        _drain(stage, say)
        ours, peer = _read(stage, happened)
        return Report(
            setting=setting,
            versions=_versions(stage),
            ours=ours,
            peer=peer,
            happened=happened,
            said=_said(stage),
            errors=_errors(stage),
            fell=dict(stage.fell),
            peer_left=stage.left_of_peer(),
            seconds=time.monotonic() - began,
        )
    finally:
        stage.close()


class Chaos:
    """Lets the plan happen: each fault in a thread of its own, none to what another has hold of."""

    def __init__(self, stage: Stage, planned: list[Planned], say: Callable[[str], None]) -> None:
        self.stage = stage
        self.planned = planned
        self.say = say
        self.began = time.monotonic()
        self.happened: list[Happening] = []

    def run(self) -> list[Happening]:
        threads = []
        for planned in self.planned:
            self._until(planned.at)
            thread = threading.Thread(target=self._happen, args=(planned.fault,), daemon=True)
            thread.start()
            threads.append(thread)
        self._until(self.stage.setting.seconds)
        for thread in threads:
            thread.join(UNDONE)
        if any(thread.is_alive() for thread in threads):
            self.stage.breaches.append("a fault could not be undone within two minutes")
        return sorted(self.happened, key=lambda happening: happening.begin)

    def _until(self, at: float) -> None:
        while (wait := self.began + at - time.monotonic()) > 0:
            self.stage.supervise()
            time.sleep(min(wait, 0.5))

    def _happen(self, fault: Fault) -> None:
        with self.stage.locks[fault.target]:
            at = time.monotonic() - self.began
            happening = Happening(fault.name, fault.target, time.time(), time.time(), fault.doubles)
            self.happened.append(happening)
            self.say(f"{at:6.1f} s  {fault.name} ({fault.target}) for {fault.lasts:.1f} s: {fault.does}")
            self._do(fault.begin)
            time.sleep(fault.lasts)
            self._do(fault.end)
            happening.end = time.time()

    def _do(self, step: Callable[[Stage], None]) -> None:
        try:
            step(self.stage)
        except Exception as exc:
            self.stage.breaches.append(f"{step.__qualname__} failed: {exc!r}")


def _drain(stage: Stage, say: Callable[[str], None]) -> None:
    """Until nothing is on its way, or for as long as it may take."""
    setting = stage.setting
    for name, user in stage.users.items():
        try:
            if user.wait(setting.delay + DRAIN):
                stage.breaches.append(f"the process of {name} failed\n{user.tail(20)}")
        except subprocess.TimeoutExpired:
            stage.breaches.append(f"the process of {name} did not come to its end\n{user.tail(20)}")
    began = time.monotonic()
    left: dict[str, int] = {}
    while time.monotonic() - began < setting.delay + DRAIN:
        stage.supervise()
        left = stage.left()
        if not left:
            break
        time.sleep(0.5)
    if left:
        stage.breaches.append(f"stuck: {left} after {setting.delay + DRAIN:.0f} s of calm")
    else:
        say(f"nothing of ours is on its way any more after {time.monotonic() - began:.1f} s")
        behind = stage.left_behind()
        if behind:
            stage.breaches.append(f"left behind in the store: {behind}")
    while stage.left_of_peer() and time.monotonic() - began < setting.visibility + DRAIN:
        stage.supervise()
        time.sleep(0.5)
    stage.supervise()
    time.sleep(1.0)  # what was taken from a queue is being run


def _read(stage: Stage, happened: list[Happening]) -> tuple[Ledger, Ledger | None]:
    calm = stage.calm_client
    breaches = stage.breaches + list(calm.lrange(load.BREACHES, 0, -1))
    for slot in stage.expiry:
        breaches += [f"{slot.name}: {text[:1500]}" for text in UNEXPECTED.findall(slot.text())]

    def promises(side: str) -> list[Promise]:
        return [Promise(**json.loads(text)) for text in calm.lrange(load.PROMISES + side, 0, -1)]

    def runs(side: str) -> list[Run]:
        split = (text.split(" ", 2) for text in calm.lrange(f"runs:{side}", 0, -1))
        return [Run(float(at), id, label) for at, id, label in split]

    ours = judge(promises("ours"), runs("ours"), happened, stage.tap.published, breaches)
    peer = judge(promises("peer"), runs("peer"), happened) if stage.setting.peer else None
    return ours, peer


def _said(stage: Stage) -> dict[str, int]:
    texts = [slot.text() for slot in stage.expiry]
    return {
        meaning: sum(int(count) for text in texts for count in re.findall(pattern, text))
        for meaning, pattern in SAID.items()
    }


def _errors(stage: Stage) -> dict[str, dict[str, int]]:
    return {
        side: {error: int(count) for error, count in stage.calm_client.hgetall(load.ERRORS + side).items()}
        for side in ("ours", "peer")
    }


def _versions(stage: Stage) -> dict[str, str]:
    packages = {name: version(name) for name in ("celery", "kombu", "redis", "celery-redis-expiry")}
    return {"Redis": stage.redis_version, "CPython": platform.python_version(), **packages}
