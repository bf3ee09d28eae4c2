"""How a batch goes, and how it went: a bar while it runs, a line at its end, an exit status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from portico.terminal import Terminal, echo

__all__ = ["Batch", "following", "tell", "verdict"]

Batch = Mapping[str, Any]  # as OpenAI's API shows it

SHOWN: Final = 20  # problems of a file that are told


@contextmanager
def following(title: str) -> Iterator[Callable[[Batch], None]]:
    """Give what to call with the batch now and then: draws a bar on a terminal, elsewhere a line for every tenth."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        said: tuple[Any, ...] = ()

        def say(batch: Batch) -> None:
            nonlocal said
            done, failed, total = _counts(batch)
            if (now := (batch["status"], 10 * done // total if total else 0)) != said:
                said = now
                console.print(f"{title}: {batch['status']}, {done} of {total}, {failed} failed", highlight=False)

        yield say
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, failed="")

        def draw(batch: Batch) -> None:
            done, failed, total = _counts(batch)
            said, told = f"{title}  {batch['status']}", f"{failed} failed" if failed else ""
            bar.update(task, description=said, completed=done, total=total or None, failed=told)

        yield draw


def _counts(batch: Batch) -> tuple[int, int, int]:
    """How many lines have come out, how many of them not well, and how many there are."""
    counts = batch.get("request_counts") or {}
    good, bad = counts.get("completed", 0), counts.get("failed", 0)
    return good + bad, bad, counts.get("total", 0)


def tell(batch: Batch, as_json: bool, out: str | None = None) -> None:
    """Print the batch; ``out`` is the file that its results are in."""
    if as_json:
        echo(json.dumps({**batch, **({"results": out} if out is not None else {})}, ensure_ascii=False))
        return
    console = Terminal(highlight=False, soft_wrap=True)
    done, failed, total = _counts(batch)
    console.print(f"{batch['id']}  [bold]{batch['status']}[/bold]  {done} of {total} lines, {failed} failed")
    if usage := batch.get("usage"):
        console.print(f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out")
    problems = (batch.get("errors") or {}).get("data") or []
    for problem in problems[:SHOWN]:
        line = f"line {problem['line']}: " if problem.get("line") else ""
        console.print(f"{line}{problem.get('message')}", style="red", markup=False)
    if out is not None:
        console.print(out, markup=False)


def verdict(batch: Batch) -> int:
    """The exit status: 0 where every line was answered well, 3 where not, 2 where the file is no list of requests.
    With 1 commands end that could not be carried out."""
    if batch["status"] == "failed":
        return 2
    return 0 if batch["status"] == "completed" and not _counts(batch)[1] else 3
