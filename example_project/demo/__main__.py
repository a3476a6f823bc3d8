"""From nothing to the main job: starts Redis, an SMS gateway, the expiry worker and an ordinary worker, plays
the referral story on them, and says what came of it. Exit code 0 only if every friend who did not sign up got
exactly one message, and nobody else got one.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

# So that `python example_project/demo` works as `python -m demo` does, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo import ledger, stage
from demo.display import Display
from demo.processes import DemoError, Interrupted, Processes


def main() -> int:
    options, display = _options(), Display()
    try:
        server, version = stage.find_parts()
    except DemoError as error:
        display.say(f"The demo can't start. {error}")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="celery-redis-expiry-demo-"))
    processes = Processes(folder, stage.EXAMPLE)
    processes.listen_for_signals()
    code = 1
    try:
        display.say(f"A demo of celery-redis-expiry on a Redis {version} of its own, all data in {folder}\n")
        code = _run(options, server, folder, processes, display)
    except Exception as error:
        code = _explain(error, processes, display)
    finally:
        processes.stop()
        if code != 1:
            shutil.rmtree(folder, ignore_errors=True)
    if code:
        display.say(f"\nThe logs are in {folder}" if code == 1 else "\nEverything it had started is gone.")
    return code


def _run(
    options: argparse.Namespace, server: Path, folder: Path, processes: Processes, display: Display
) -> int:
    gateway_options = f"--unreliable {options.unreliable}"
    if options.sabotage:
        gateway_options += f" --{options.sabotage} 20"
    queue = stage.set_up(server, folder, gateway_options, processes, display)

    from demo.story import Story, ask_gateway  # needs what set_up did to Django

    delays = options.min_delay, options.max_delay
    low, high = delays
    display.say(
        f"\n{options.referrals} friends; {low:g} to {high:g} s after each was referred the shop looks again:"
    )
    story = Story(options.referrals, delays, processes, queue, display)
    began = time.monotonic()
    story.play()
    story.wait()
    messages, stats = ask_gateway("/messages"), ask_gateway("/stats")
    friends = story.friends(messages)
    faults = ledger.faults(friends, messages, story.timers_left())
    display.say()
    for line in ledger.summary(friends, messages, stats, queue.retries):
        display.say("  " + line)
    display.say(f"  took           {time.monotonic() - began:.0f} s\n")
    if faults:
        display.say("WRONG: " + "; ".join(faults) + ".")
        return 1
    display.say("Every friend who had not signed up got exactly one message, and nobody else got one.")
    return 0


def _explain(error: Exception, processes: Processes, display: Display) -> int:
    """Say why the demo ends, and answer its exit code."""
    if not isinstance(error, DemoError | Interrupted):
        traceback.print_exception(error)
        try:
            processes.check()  # a server that has died is what lies behind many an error
        except (DemoError, Interrupted) as cause:
            error = cause
    if isinstance(error, Interrupted):
        display.say(f"\nInterrupted ({error}).")
        return 128 + error.number
    display.say(f"\nThe demo can't go on: {error}")
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    add = parser.add_argument
    add("--referrals", type=int, default=1000, metavar="N", help="how many friends (1000)")
    add("--min-delay", type=float, default=3, metavar="S", help="seconds until the look, at least 0.5 (3)")
    add("--max-delay", type=float, default=15, metavar="S", help="seconds until the look, at most 3600 (15)")
    add(
        "--unreliable", type=int, default=100, metavar="N", help="the gateway fails twice in N requests (100)"
    )
    add("--sabotage", choices=["lose", "double"], help="what befalls every 20th text: the demo must notice")
    options = parser.parse_args()
    if options.referrals < 1 or options.unreliable < 0:
        parser.error("--referrals must be at least 1, --unreliable at least 0")
    if not 0.5 <= options.min_delay <= options.max_delay <= 3600:
        parser.error("0.5 <= --min-delay <= --max-delay <= 3600 must hold")
    return options


if __name__ == "__main__":
    sys.exit(main())
