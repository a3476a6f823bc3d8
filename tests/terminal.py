"""A process on a terminal of its own, what it has drawn there, and a picture of it."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from pathlib import Path

from tests.waiting import eventually

#: Before each frame the cursor is set back to the first line.
HOME = "\x1b[H"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: In this font a full block is 10 pixels wide and 19 high, so that bars and frames have no gaps.
PAGE = """<!DOCTYPE html><style>
{stylesheet}
pre {{ color: {foreground}; background: {background}; width: fit-content; margin: 0; padding: 20px 24px }}
code {{ font: 16.61px/19px "DejaVu Sans Mono", monospace }}
</style><pre><code>{code}</code></pre>"""


class Terminal:
    """One process; it ends with `close`, unless before.

    Attributes:
        written: all that was read of it so far.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, columns: int = 120, rows: int = 50
    ) -> None:
        self.columns = columns
        # pytest-xdist has a size of its own in the environment, which would rule over that of the terminal
        size = {"COLUMNS": str(columns), "LINES": str(rows)}
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, **size, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(theirs)
        self.written = ""

    def read(self) -> str:
        """All that it has written by now."""
        while select.select([self._ours], [], [], 0.05)[0]:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            self.written += chunk.decode(errors="replace")
        return self.written

    def frame(self) -> str:
        """The last whole frame, with its colours."""
        frames = self.read().split(HOME)
        return frames[-2] if len(frames) > 2 else ""

    def screen(self) -> str:
        """The same without its colours."""
        return CODES.sub("", self.frame())

    def wait_for(self, pattern: str) -> None:
        """Until the screen looks like this. A frame takes seconds where workers take theirs to answer."""
        eventually(
            lambda: re.search(pattern, self.screen()), timeout=40, what=lambda: f"{pattern}\n{self.screen()}"
        )

    def as_html(self) -> str:
        """A page with the last whole frame in its `pre`."""
        from rich.console import Console
        from rich.terminal_theme import SVG_EXPORT_THEME
        from rich.text import Text

        console = Console(record=True, width=self.columns, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(self.frame().replace("\r\n", "\n").rstrip()), end="")
        return console.export_html(theme=SVG_EXPORT_THEME, code_format=PAGE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._ours)
