"""``portico trace``: what a server recorded of its requests, in the terminal.

The server must run with ``--inspect``; single requests that asked to be recorded are shown by their id as well.
"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from portico.commands.remote import server_options
from portico.commands.trace.asking import TraceServer
from portico.commands.trace.lists import follow_live, print_list
from portico.commands.trace.one import print_origin, print_trace
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("trace")
@click.argument("id", required=False)
@server_options
@click.option("--follow", is_flag=True, help="Go on as it happens: requests, or with ID that request's artifacts.")
@click.option("--artifact", type=int, metavar="N", help="Show what artifact N was made from, down to the token ids.")
@click.option("--export", "file", type=click.Path(dir_okay=False), help="Write the trace to a file ('-': to stdout).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    id: str | None,
    url: str,
    api_key: str | None,
    follow: bool,
    artifact: int | None,
    file: str | None,
    as_json: bool,
) -> None:
    """Show what the layers of a server made of a request.

    ID is a trace's or a request's; without it, the last requests are listed. Each artifact has its layer, when it came
    (+ms) and how long it took, and the artifacts that it was made from. What the engine inferred is marked; everything
    else is translation.

    Examples:

      portico trace

      portico trace --follow

      portico trace tr_0123456789abcdef --artifact 41

      portico trace tr_0123456789abcdef --export bug.json
    """
    if id is None and (artifact is not None or file is not None):
        raise click.UsageError("--artifact and --export need the ID of a trace")
    server = TraceServer(url, api_key)
    console = Terminal(highlight=False)
    try:
        if follow:
            follow_live(server, id, console, as_json)
        elif id is None:
            found = server.get("/inspect/traces")
            echo(json.dumps(found, ensure_ascii=False, indent=2)) if as_json else print_list(found, console)
        else:
            content = server.fetch(f"/inspect/traces/{id}")
            if file is not None:
                _write(file, content)
            elif artifact is not None:
                print_origin(json.loads(content), artifact, console, as_json)
            elif as_json:
                echo(content)
            else:
                print_trace(json.loads(content), console)
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def _write(file: str, content: bytes) -> None:
    if file == "-":
        echo(content, nl=False)
        return
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"--export {file}: {error.strerror}") from None
    echo(f"{file}: {len(content):,} bytes; 'portico replay {file}' runs it again", err=True)
