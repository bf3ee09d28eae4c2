"""A progress bar on stderr for fetching a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from portico.config import Settings
from portico.models import Progress
from portico.terminal import Terminal

__all__ = ["fetched", "loading", "progress_bar"]


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

    Where stderr is not a terminal each step is one line, so that logs stay readable.
    """
    console = Terminal(stderr=True)
    if not console.is_terminal:
        said = ""

        def say(step: str, done: int, total: int) -> None:
            nonlocal said
            if step != said:
                said = step
                console.print(f"{title}: {step} ({total / 1e6:.1f} MB)", highlight=False)

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


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Say on standard error that a model is being loaded: on a terminal with the seconds it takes, else as a line."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("Loading {task.description}"), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        bars.add_task(model, total=None)
        yield
