"""The chaos suite: thousands of timers under faults drawn from a seed, and a ledger of what became of them.

__main__  the command line, `make chaos`      run       one run from start to verdict
stage     servers, proxies, workers           faults    what is done to them, and when
load      who schedules, and what was said    ledger    what was promised, what ran, what that means
app       the Celery app of all processes     clock     a wrong clock for a process
"""
