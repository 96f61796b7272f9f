"""Progress bars for the command line and the benchmarks."""

from __future__ import annotations

import sys

from tqdm import tqdm


class Bars:
    """One progress bar at a time, and lines of text above it. Where nobody watches, phases are named instead.

    Call it as a `Progress`: (what is being done, done, of how many).
    """

    def __enter__(self) -> Bars:
        self.what = ""
        self.bar: tqdm[None] | None = None
        return self

    def __call__(self, what: str, done: int, of: int) -> None:
        if what != self.what:
            self.close()
            self.what = what
            if sys.stderr.isatty():
                self.bar = tqdm(total=of, desc=what, leave=False)
            else:
                print(f"… {what}", file=sys.stderr, flush=True)
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def say(self, text: str) -> None:
        """Print a line."""
        self.close()
        print(text, flush=True)

    def close(self) -> None:
        """End the current bar, if there is one."""
        self.what = ""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __exit__(self, *_: object) -> None:
        self.close()
