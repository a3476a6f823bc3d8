"""Progress for whoever watches: one living line on a terminal, a line now and then elsewhere."""

import shutil
import sys
import time

WIDTH = 12


class Display:
    """Shows how far the demo is; asks nobody itself."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._began = time.monotonic()
        self._next = 0.0

    def say(self, text: str = "") -> None:
        """Print a line that stays."""
        print(("\r\033[K" if self._live else "") + text, flush=True)

    @property
    def is_due(self) -> bool:
        """Whether it is worth collecting figures for `show`."""
        return time.monotonic() >= self._next

    def show(self, total: int, *, scheduled: int, cancelled: int, fired: int, texts: int) -> None:
        self._next = time.monotonic() + (0.2 if self._live else 5.0)
        done = min(cancelled + fired, total)
        bar = ("#" * (WIDTH * done // total)).ljust(WIDTH, ".")
        figures = f"scheduled {scheduled}  signed up {cancelled}  fired {fired}  texts {texts}"
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        if self._live:
            columns = shutil.get_terminal_size().columns  # a line that wraps could not be written over
            print("\r\033[K" + f"  {elapsed}  [{bar}]  {figures}"[: columns - 1], end="", flush=True)
        else:
            print(f"  {elapsed}  {figures}", flush=True)
