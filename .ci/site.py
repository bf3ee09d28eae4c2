"""The documentation as a site, in ``build/site``: docs/, the README as its start, and two pages that are made from the
code, the commands and the metrics. Links that lead nowhere are errors. ``pip install '.[docs]'``, then
``python .ci/site.py``.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from portico.cli import COMMANDS
from portico.config import Settings
from portico.server.observe.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "docs"


def commands() -> str:
    """Every command with its arguments, options and examples."""
    lines = [
        *("# Command line", ""),
        "Settings that several commands share stand on [their own page](configuration.md). A shell completes commands,",
        'options, models and parsers after `eval "$(_PORTICO_COMPLETE=bash_source portico)"`, and so in zsh and fish',
        "(`zsh_source`, `fish_source`).",
    ]
    for name in COMMANDS:
        lines += list(_command(f"portico {name}", import_module(f"portico.commands.{name}").command))
    return "\n".join(lines) + "\n"


def _command(path: str, command: click.Command) -> Iterator[str]:
    arguments = " ".join(one.make_metavar(click.Context(command)) for one in command.params if _is_argument(one))
    yield from ("", f"## {path}", "", f"`{' '.join(filter(None, (path, arguments)))}`", "")
    said, _, examples = inspect.cleandoc(command.help or "").partition("Examples:")
    yield said.replace("\b\n", "").strip()
    if examples:
        yield from ("", "```sh", *(line.strip() for line in examples.splitlines() if line.strip()), "```")
    own = [one for one in command.params if not _is_argument(one) and one.name not in Settings.model_fields]
    if own:
        yield from ("", "| option | what it says |", "|---|---|")
    for option in own:
        assert isinstance(option, click.Option)
        flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
        yield f"| {flags} | {(option.help or '').replace('|', ' or ')} |"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _command(f"{path} {name}", inner)


def _is_argument(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument)


def metrics() -> str:
    """Every metric with its labels."""
    lines = [
        *("# Metrics", "", "What `GET /metrics` has; [observability](observability.md#metrics) says how to use it."),
        *("", "| metric | kind | labels | what it counts |", "|---|---|---|---|"),
    ]
    every = Metrics(of_keys=True)
    labels = {one._name: one._labelnames for one in vars(every).values() if hasattr(one, "_labelnames")}
    for metric in sorted(every._registry.collect(), key=lambda one: one.name):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        shown = ", ".join(f"`{label}`" for label in labels.get(metric.name, ()))
        lines.append(f"| `{name}` | {metric.type} | {shown} | {metric.documentation} |")
    return "\n".join(lines) + "\n"


def start() -> str:
    """The README, whose links lead into docs/ from outside."""
    return (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .replace("](docs/", "](")
        .replace("](CHANGELOG.md)", "](changelog.md)")
    )


def inside(page: str) -> str:
    """A page without links out of docs/: what they lead to is no part of the site."""
    return re.sub(r"\[([^]]+)\]\(\.\./[^)]+\)", r"`\1`", page)


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for page in PAGES.glob("*.md"):
        page.write_text(inside(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name, made in {"index": start, "commands": commands, "metrics": metrics}.items():
        (PAGES / f"{name}.md").write_text(made(), encoding="utf-8")
    shutil.copy(ROOT / "CHANGELOG.md", PAGES / "changelog.md")
    sys.exit(
        subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(ROOT / "mkdocs.yml")],
            check=False,
        ).returncode
    )


if __name__ == "__main__":
    main()
