"""How the demo prints: colours and a moving line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_BAR = 30


class Screen:
    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()

    def styled(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._terminal else text

    def say(self, text: str = "", style: str = "") -> None:
        print(self.styled(text, style) if style else text, flush=True)

    def chapter(self, title: str) -> None:
        self.say()
        self.say(title, "bold")

    def command(self, text: str) -> None:
        self.say(f"$ {text}", "cyan")

    def verdict(self, good: bool, text: str) -> None:
        self.say(f"{self.styled('✓', 'green') if good else self.styled('✗', 'red')} {text}")

    def progress(self, done: float, text: str, *, keep: bool = False) -> None:
        """One line that is drawn over until it is kept; a pipe gets the kept ones only.

        done: the share, 0 to 1.
        """
        full = round(done * _BAR)
        line = f"  {'━' * full}{'╌' * (_BAR - full)} {done:4.0%}  {text}"
        if self._terminal:
            print(f"\r\x1b[K{line}", end="\n" if keep else "", flush=True)
        elif keep:
            print(line, flush=True)
