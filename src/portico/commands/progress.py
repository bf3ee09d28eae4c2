"""A progress bar on stderr for fetching a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from portico.config import Settings
from portico.models import Progress
from portico.terminal import Terminal

__all__ = ["fetched", "progress_bar"]


LARGE = 10_000_000  # bytes; what is smaller is there at once


def fetched(settings: Settings) -> None:
    """Fetch the models that the settings name and that this process loads, as far as they are not here."""
    from portico import models

    for one in settings.each_model:
        if one.embedded:  # others have their own weights
            with progress_bar(one.model) as progress:
                models.resolve(one.model, progress)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Give a ``models.Progress`` that draws one bar per step; nothing is drawn when nothing is fetched.

    Where stderr is not a terminal each tenth of a step is one line, so that logs stay readable.
    """
    console = Terminal(stderr=True)
    if not console.is_terminal:
        said, tenths, began = "", 0, 0.0

        def say(step: str, done: int, total: int) -> None:
            nonlocal said, tenths, began
            if step != said:
                said, tenths, began = step, 10 * done // max(total, 1), time.monotonic()
                console.print(f"{title}: {step} ({total / 1e6:.1f} MB)", highlight=False)
            elif total >= LARGE and 10 * done // total > tenths:
                tenths = 10 * done // total
                speed = done / max(time.monotonic() - began, 1e-3)
                left = f", {(total - done) / speed:.0f} s left" if done < total else ""
                figures = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB, {speed / 1e6:.1f} MB/s{left}"
                console.print(f"{title}: {step}, {figures}", highlight=False)

        yield say
        return
    columns = (
        TextColumn(f"{title}  {{task.description}}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = None
        step_shown = ""

        def draw(step: str, done: int, total: int) -> None:
            nonlocal task, step_shown
            if task is None or step != step_shown:
                if task is not None:
                    bars.update(task, visible=False)
                task, step_shown = bars.add_task(step), step
            bars.update(task, completed=done, total=total)

        yield draw
