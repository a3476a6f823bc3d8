"""Record what the present release stores: `python -m tests.releases.record`, once, before it is published.

Writes `<version>/dump.json` (a timer of every kind, in every state, and what must come of each) and
`<version>/lua` (the scripts as they are sent to Redis). A release that is out is never recorded again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from celery import chain, chord, group

from celery_redis_expiry import __version__, schedule_on_expiry
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.scripts import NAMES, program
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Claimed
from tests.releases import dump
from tests.servers import redis
from tests.servers.redis import RedisServer
from tests.servers.workers import APPS

#: Seconds from the recording to the due time of what waits, and for which what is claimed stays claimed.
DELAY = 3600.0


class Recorder:
    """Schedules through the public calls, and moves timers through the store as a worker would."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.store = store_of(site.app)
        self.shard = self.store.shards[0]
        self.timers: list[dict[str, Any]] = []

    def schedule(
        self, what: str, signature: Any, runs: dict[str, Any], seconds: float, name: str | None
    ) -> None:
        """Schedule one, and note what must come of it.

        Arguments:
            what: which kind or state it stands for.
            runs: label of each run in the ledger → what its request must say.
        """
        result = schedule_on_expiry(signature, seconds, key=name, app=self.site.app)
        timer = result.timer
        assert timer is not None
        assert timer.due is not None
        self.timers.append(
            {
                "what": what,
                "label": name or result.id,
                "name": name,
                "id": result.id,
                "task": timer.task,
                "state": "waiting",
                "due_ms": round(timer.due.timestamp() * 1000),
                "runs": runs,
            }
        )

    def claim(self, token: str) -> Claimed:
        """Claim the last one scheduled, which is due."""
        last = self.timers[-1]
        member = self.site.redis.hget(self.site.key("names"), last["label"])
        [claim] = self.shard.claim([(member, True)], token=token, lease=DELAY)
        return claim

    def plain(self) -> None:
        record, add, total = (self.site.task(name) for name in ("record", "add", "total"))
        plain = record.s("plain", 1, "zwei", deep={"list": [1.5, None, True]})
        self.schedule(
            "plain",
            plain.set(headers={"tenant": "acme"}, priority=3),
            {
                "plain": {
                    "args": ["plain", 1, "zwei"],
                    "kwargs": {"deep": {"list": [1.5, None, True]}},
                    "tenant": "acme",
                }
            },
            DELAY,
            None,
        )
        self.schedule("named", record.s("named"), {"named": {}}, DELAY, "referral:42")
        odd = "ü {x} [a]* \\ : 'q'"
        self.schedule("oddly named", record.s(odd), {odd: {}}, DELAY, odd)
        own = record.s("own id").set(task_id="own:id *")
        self.schedule("own task id", own, {"own id": {"id": "own:id *"}}, DELAY, None)
        options = record.s("options").set(
            queue="other", expires=7200, compression="zlib", link=record.si("linked")
        )
        routed = {
            "delivery_info": {"exchange": "", "routing_key": "other", "priority": 0, "redelivered": False}
        }
        self.schedule(
            "queue, expires, compression, link", options, {"options": routed, "linked": {}}, DELAY, "options"
        )
        links = chain(record.si("link 1"), record.si("link 2"))
        self.schedule("chain", links, {"link 1": {}, "link 2": {}}, DELAY, "chain")
        several = group(record.si("member 1"), record.si("member 2"))
        self.schedule("group", several, {"member 1": {}, "member 2": {}}, DELAY, "group")
        sums = chord([add.s(1, 2), add.s(3, 4)], total.s())
        self.schedule("chord", sums, {"1+2": {}, "3+4": {}, "total": {"args": [[3, 7]]}}, DELAY, None)
        pairs = record.chunks(zip(["chunk 1", "chunk 2", "chunk 3"]), 2)
        self.schedule("chunks", pairs, {f"chunk {number}": {} for number in (1, 2, 3)}, DELAY, "chunks")

    def in_other_states(self) -> None:
        record = self.site.task()
        self.schedule("parked", record.s("parked"), {"parked": {}}, DELAY, "parked")
        self._note(state="parked")
        member = self.site.redis.hget(self.site.key("names"), "parked")
        self.site.redis.persist(self.site.key(f"trigger:{member}"))
        self.shard.touch([member])

        self.schedule("claimed", record.s("claimed"), {"claimed": {}}, 0, "claimed")
        self._note(state="claimed")
        self.claim("a-claim-tokn")

        self.schedule("released", record.s("released"), {"released": {}}, 0, "released")
        claim = self.claim(new_token())
        self.shard.release(claim.token, [claim], delay=DELAY, tried=True)
        again = int(self.site.redis.zscore(self.site.key("due"), claim.member))
        self._note(due_ms=again, attempts=1)

        self.schedule("dead letter", record.s("dead"), {"dead": {}}, 0, "dead")
        self._note(state="dead", reason="unroutable: no queue for 'nowhere'", origin="expiry@recorded")
        self.shard.bury(self.claim(new_token()), self.timers[-1]["reason"], self.timers[-1]["origin"])

    def _note(self, **more: Any) -> None:
        self.timers[-1].update(more)


def record(server: RedisServer, folder: Path) -> dump.Dump:
    sys.path.insert(0, str(APPS))  # pytest's conftest does so for the tests
    from tests.site import Site

    site = Site(server, folder)
    with site.current():
        recorder = Recorder(site)
        recorder.store.enter("redis://localhost:0/0")
        recorder.plain()
        recorder.in_other_states()
        recorder.shard.look("expiry@recorded", limit=10, parked=0)
    base = site.key("")
    recorded = {
        "release": __version__,
        "recorded_ms": dump.now_ms(site.redis),
        "base": base,
        "keys": dump.taken(site.redis, base),
        "timers": recorder.timers,
    }
    site.close()
    return recorded


def main() -> None:
    folder = dump.HERE / __version__
    if folder.exists():
        raise SystemExit(f"{folder} is there: what a release stores is recorded once")
    server = RedisServer(*next((path, version) for version, path in redis.binaries().items()))
    try:
        with tempfile.TemporaryDirectory() as work:
            recorded = record(server.start(), Path(work))
    finally:
        server.remove()
    (folder / "lua").mkdir(parents=True)
    text = json.dumps(recorded, indent=1, ensure_ascii=False)
    (folder / dump.DUMP).write_text(text + "\n", encoding="utf-8")
    for name in NAMES:
        (folder / "lua" / f"{name}.lua").write_text(program(name), encoding="utf-8")
    print(f"{folder}: {len(recorded['timers'])} timers, {len(NAMES)} scripts")


if __name__ == "__main__":
    main()
