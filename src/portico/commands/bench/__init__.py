"""``portico bench``: how fast a server is, and what it costs.

asking     one client's requests
figures    what they come to
picture    the same drawn
local      the server's processor time, where it runs on this machine
"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from portico.commands.bench.asking import APIS
from portico.commands.options import completed
from portico.commands.remote import Remote, server_options
from portico.errors import PorticoError

__all__ = ["command"]


@click.command("bench")
@server_options
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True, help="Answers at a time.")
@click.option("--requests", type=click.IntRange(1), default=64, show_default=True, help="Answers in all.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Requests begun in a second; 0: no limit.",
)
@click.option("--prompt-tokens", type=click.IntRange(1), default=64, show_default=True, help="Length, about.")
@click.option("--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Longest answer.")
@click.option("--api", type=click.Choice(list(APIS)), default="chat", show_default=True, help="How it is asked.")
@click.option("--tools", is_flag=True, help="Offer a tool with each request.")
@click.option("--model", default="", shell_complete=completed("model"), help="Its name; the server's first if absent.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="File for a picture of the times.")
def command(
    url: str,
    concurrency: int,
    requests: int,
    rate: float,
    prompt_tokens: int,
    max_tokens: int,
    api: str,
    tools: bool,
    model: str,
    api_key: str | None,
    as_json: bool,
    svg: Path | None,
) -> None:
    """Measure a running server: answers and events per second, waiting times, processor time.

    Every answer is streamed. Where the server runs on this machine (Linux), the processor time of the processes that
    listen at its port is told per event; that of an engine in a process of its own is not in it.

    Examples:

      portico bench

      portico bench --url http://gpu1:8000 --concurrency 256 --requests 2048 --prompt-tokens 1000 --svg times.svg

      portico bench --api messages --tools --rate 20 --json
    """
    import asyncio
    import json

    from portico.commands.bench.asking import Asker, body_of
    from portico.commands.bench.figures import lines, summary
    from portico.commands.bench.picture import picture
    from portico.commands.bench.running import first_model, run
    from portico.terminal import Terminal, echo

    with Remote(url, api_key) as server:
        url = server.url
        model = model or first_model(server.get("/v1/models"))
    body = body_of(api, model, prompt_tokens, max_tokens, tools)
    askers = [Asker(url, APIS[api], body, api_key) for _ in range(concurrency)]
    outcomes, seconds, cpu = asyncio.run(run(askers, requests, rate, url))
    found = summary(outcomes, seconds, cpu)
    if not found["requests"]:
        raise PorticoError(f"Every request failed: {found['errors'][0]}")
    if svg is not None:
        good = [one for one in outcomes if not one.error]
        series = {
            "first event": sorted(one.first for one in good),
            "gap between reads with events": sorted(gap for one in good for gap in one.gaps),
        }
        svg.write_text(picture(f"{url} {api}, {concurrency} at a time", series), encoding="utf-8")
    if as_json:
        echo(json.dumps(found))
        return
    console = Terminal(highlight=False, soft_wrap=True)
    for line in lines(found):
        console.print(line, markup=False)
