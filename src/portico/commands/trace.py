"""``portico trace``: what a server recorded of its requests, in the terminal.

The server must run with ``--inspect``; single requests that asked to be recorded are shown by their id as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import rich_click as click
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

from portico.errors import PorticoError

__all__ = ["command"]

STATES = {"open": "cyan", "ok": "green", "refused": "yellow", "failed": "bold red", "gone": "magenta"}
LANES = {"request": "blue", "prompt": "cyan", "tokens": "bold yellow", "text": "green", "events": "magenta", "wire": ""}
STAGES = ("read", "validate", "template", "tokenize", "constrain", "check", "admit")
SHOWN = 200  # characters or tokens of one artifact's content
FEW = 4  # tokens of a step


@click.command("trace")
@click.argument("id", required=False)
@click.option(
    "--url", envvar="PORTICO_URL", default="http://127.0.0.1:8000", show_default=True, help="Base URL of the server."
)
@click.option("--api-key", envvar="PORTICO_API_KEY", help="API key of the server.")
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
    server = _Server(url, api_key)
    console = Console(highlight=False)
    try:
        if follow:
            _follow(server, id, console, as_json)
        elif id is None:
            found = server.get("/inspect/traces")
            click.echo(json.dumps(found, ensure_ascii=False, indent=2)) if as_json else _print_list(found, console)
        else:
            content = server.fetch(f"/inspect/traces/{id}")
            if file is not None:
                _write(file, content)
            elif artifact is not None:
                _print_origin(json.loads(content), artifact, console, as_json)
            elif as_json:
                click.echo(content)
            else:
                _print_trace(json.loads(content), console)
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


class _Server:
    """A server with an inspector. Raises ``PorticoError`` with a sentence that says what to do."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=self._url, headers=headers, timeout=httpx.Timeout(10, read=60))
        except (httpx.InvalidURL, ValueError) as error:
            raise click.UsageError(f"--url: {error}") from None

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fetch(path))
        return found

    def fetch(self, path: str) -> bytes:
        with self._told():
            response = self._client.get(path)
            self._check(response)
            return response.content

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The values of a stream of server-sent events."""
        with self._told(), self._client.stream("GET", path) as response:
            if response.status_code != 200:
                response.read()
            self._check(response)
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise PorticoError(
                f"No server answers at {self._url}: start one with 'portico serve --inspect', or give its --url."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PorticoError(f"{self._url}: {error or type(error).__name__}.") from None
        except ValueError:
            raise PorticoError(f"{self._url} does not answer as a Portico server does.") from None

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            return
        message, code = _error(response)
        if response.status_code == 401:
            raise PorticoError(f"{self._url} wants an API key: give --api-key, or set PORTICO_API_KEY.")
        if response.status_code == 404 and code == "trace_not_found":
            raise PorticoError(f"{message} 'portico trace' lists those that are.")
        if response.status_code == 404:
            raise PorticoError(f"{self._url} does not record requests: start it with 'portico serve --inspect'.")
        raise PorticoError(f"{self._url} answers {response.status_code}: {message}")


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        error = response.json()["error"]
        return str(error["message"]), str(error.get("code"))
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase, ""


def _write(file: str, content: bytes) -> None:
    if file == "-":
        click.echo(content, nl=False)
        return
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"--export {file}: {error.strerror}") from None
    click.echo(f"{file}: {len(content):,} bytes; 'portico replay {file}' runs it again", err=True)


# -- lists ------------------------------------------------------------------------------------------------------------


def _print_list(found: dict[str, Any], console: Console) -> None:
    traces = found["traces"]
    if not traces:
        console.print("No requests yet.", style="dim")
        return
    table = Table(
        Column("trace", no_wrap=True),
        Column("at", no_wrap=True),
        "request",
        "model",
        "state",
        Column("ms", justify="right"),
        Column("first token", justify="right"),
        Column("tokens", justify="right"),
        "finish",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for head in traces:
        fault = head.get("error")
        table.add_row(
            head["id"],
            _clock(head["began"]),
            f"{head['method']} {head['path']}",
            head.get("model") or "",
            _state(head),
            _ms(head.get("seconds")),
            _ms(head.get("first_token")),
            _tokens(head),
            Text(f"{fault['layer']}: {fault['code']}", style="red") if fault else head.get("finish") or "",
        )
    console.print(table)


def _follow(server: _Server, id: str | None, console: Console, as_json: bool) -> None:
    path = "/inspect/live" if id is None else f"/inspect/traces/{id}/live"
    if as_json:
        for value in server.events(path):
            click.echo(json.dumps(value, ensure_ascii=False))
    elif id is None:
        _follow_requests(server.events(path), console)
    else:
        _follow_artifacts(server.events(path), console)


def _follow_requests(events: Iterator[dict[str, Any]], console: Console) -> None:
    """One line when a request begins, one when it ends."""
    begun: set[str] = set()
    for value in events:
        head = value["trace"]
        line = Text(f"{_clock(head['began'])} {head['id']} ")
        if head["state"] == "open":
            if head["id"] in begun:
                continue
            begun.add(head["id"])
            line.append(f"{head['method']} {head['path']}", style="dim")
        else:
            begun.discard(head["id"])
            line.append_text(_state(head))
            line.append(f" {head['path']} {head.get('model') or ''} {_ms(head['seconds'])} ms")
            if head.get("first_token") is not None:
                line.append(f", first token {_ms(head['first_token'])} ms, {_tokens(head)} tokens")
            if fault := head.get("error"):
                line.append(f" {fault['layer']}: {fault['message']}", style="red")
        console.print(line, soft_wrap=True)


def _follow_artifacts(events: Iterator[dict[str, Any]], console: Console) -> None:
    """Each artifact when it is made; of what is held also the end."""
    shown: dict[int, bool] = {}
    head: dict[str, Any] = {}
    for value in events:
        head = value.get("trace") or head
        for artifact in value.get("artifacts", ()):
            over = artifact["took"] is not None
            if artifact["id"] not in shown or (artifact["kind"] == "held" and over and not shown[artifact["id"]]):
                console.print(_line(artifact), soft_wrap=True)
            shown[artifact["id"]] = over
    if head:
        console.print(_summary(head))


def _line(artifact: dict[str, Any]) -> Text:
    line = Text(f"{_ms(artifact['at']):>9} ms  #{artifact['id']:<4}")
    line.append(f"{artifact['lane']:<8}", style=LANES[artifact["lane"]])
    line.append(f"{artifact['kind']:<14}")
    line.append(_label(artifact))
    if artifact["kind"] == "held" and artifact["took"] is not None:
        line.append(f" (over after {_ms(artifact['took'])} ms)", style="dim")
    line.append("  ← " + _ids(artifact["of"]), style="dim")
    return line


# -- one request ------------------------------------------------------------------------------------------------------


def _print_trace(found: dict[str, Any], console: Console) -> None:
    table = Table(
        Column("#", justify="right"),
        Column("+ms", justify="right", no_wrap=True),
        Column("took ms", justify="right", no_wrap=True),
        "lane",
        Column("kind", no_wrap=True),
        "by",
        Column("what", overflow="fold", ratio=1),
        Column("made from", overflow="fold", max_width=24),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for artifact in found["artifacts"]:
        inferred = artifact["by"] == "inference"
        choice = "" if artifact["choice"] in (None, 0) else f"[choice {artifact['choice']}] "
        table.add_row(
            str(artifact["id"]),
            _ms(artifact["at"]),
            _ms(artifact["took"]),
            Text(artifact["lane"], style=LANES[artifact["lane"]]),
            artifact["kind"],
            Text(artifact["by"], style="bold yellow" if inferred else "dim"),
            Text(choice).append_text(_label(artifact)),
            Text(_ids(artifact["of"]), style="dim"),
            style="bold red" if artifact["kind"] == "error" else None,
        )
    console.print(_summary(found["trace"]))
    console.print(table)
    if found["trace"].get("error") and len(found["artifacts"]) > 20:  # the head has scrolled away
        console.print(_fault(found["trace"]))


def _summary(head: dict[str, Any]) -> Group:
    """A request in a few lines: what it was, how it ended, where the time to its first token went."""
    first = Text(f"{head['id']}  {head['method']} {head['path']}  {head.get('model') or ''}  ", style="bold")
    first.append_text(_state(head))
    lines = [first]
    facts = [f"request {head['request_id']}", f"at {_clock(head['began'])}"]
    if head.get("seconds") is not None:
        facts.append(f"{_ms(head['seconds'])} ms")
    if head.get("prompt_tokens") is not None:
        facts.append(f"{head['prompt_tokens']} prompt tokens")
    if head.get("completion_tokens") is not None:
        facts.append(f"{head['completion_tokens']} completion tokens")
    if head.get("finish"):
        facts.append(f"finish {head['finish']}")
    if head.get("redacted"):
        facts.append("redacted")
    lines.append(Text("  " + " · ".join(facts)))
    stages = head.get("stages") or {}
    spent = [f"{name} {_ms(stages[name])}" for name in STAGES if stages.get(name, 0.0) > 0.0]
    if head.get("first_token") is not None:
        waited = max(0.0, head["first_token"] - sum(stages.values()))
        parts = [*spent, f"engine {_ms(waited)}"] if stages else []
        lines.append(Text(f"  first token after {_ms(head['first_token'])} ms: {', '.join(parts)}".rstrip(": ")))
    elif spent:
        lines.append(Text(f"  spent, in ms: {', '.join(spent)}"))
    if head.get("dropped"):
        lines.append(Text(f"  {head['dropped']} artifacts were not recorded: the trace is full", style="yellow"))
    if head.get("error"):
        lines.append(_fault(head))
    return Group(*lines)


def _fault(head: dict[str, Any]) -> Text:
    fault = head["error"]
    how = "refused by" if head["state"] == "refused" else "failed in"
    param = f" (param: {fault['param']})" if fault.get("param") else ""
    return Text(
        f"  ✗ {how} {fault['layer']}: {fault['status']} {fault['code']}{param}\n    {fault['message']}",
        style="bold red",
    )


# -- where one artifact came from -------------------------------------------------------------------------------------


def _print_origin(found: dict[str, Any], wanted: int, console: Console, as_json: bool) -> None:
    artifacts = {artifact["id"]: artifact for artifact in found["artifacts"]}
    if wanted not in artifacts:
        raise click.UsageError(f"--artifact {wanted}: this trace has artifacts 0 to {len(artifacts) - 1}")
    chain = [artifacts[id] for id in _origins(artifacts, wanted)]
    if as_json:
        click.echo(json.dumps(chain, ensure_ascii=False, indent=2))
        return
    table = Table(
        Column("#", justify="right"),
        "lane",
        Column("kind", no_wrap=True),
        Column("what", overflow="fold", ratio=1),
        Column("made from", overflow="fold", max_width=24),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for artifact in chain:
        table.add_row(
            str(artifact["id"]),
            Text(artifact["lane"], style=LANES[artifact["lane"]]),
            artifact["kind"],
            _content(artifact),
            Text(_ids(artifact["of"]), style="dim"),
        )
    console.print(table)


def _origins(artifacts: dict[int, dict[str, Any]], wanted: int) -> list[int]:
    """The artifact and its ancestors, the last made first."""
    found = {wanted}
    waiting = [wanted]
    while waiting:
        for parent in artifacts[waiting.pop()]["of"]:
            if parent in artifacts and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, reverse=True)


def _content(artifact: dict[str, Any]) -> Text:
    """What the artifact holds, as far as it fits."""
    data = artifact["data"]
    if "ids" in data:
        pieces = data.get("pieces") or [""] * len(data["ids"])
        text = Text()
        for token, piece in list(zip(data["ids"], pieces, strict=False))[:SHOWN]:
            text.append(json.dumps(piece, ensure_ascii=False), style="green").append(f" {token}  ", style="dim")
        return text.append("…") if len(data["ids"]) > SHOWN else text
    for name in ("bytes", "base64", "text", "body", "json_fragment", "lark"):
        if name in data:
            shown = data[name] if len(data[name]) <= SHOWN else data[name][: SHOWN - 1] + "…"
            text = Text(json.dumps(shown, ensure_ascii=False))
            return text.append(f"  {data['reason']}", style="italic") if artifact["kind"] == "held" else text
    return _label(artifact)


# -- words ------------------------------------------------------------------------------------------------------------


def _label(artifact: dict[str, Any]) -> Text:
    if artifact["kind"] == "held":
        return Text("held: ", style="yellow").append(artifact["label"], style="italic")
    if artifact["kind"] == "error":
        return Text(f"{artifact['label']}: {artifact['data'].get('message', '')}", style="bold red")
    label = Text(artifact["label"])
    if artifact["kind"] == "step":
        data = artifact["data"]
        ids, pieces = data.get("ids", ()), data.get("pieces", ())
        for token, piece in list(zip(ids, pieces, strict=False))[:FEW]:
            label.append("  " + json.dumps(piece, ensure_ascii=False), style="green").append(f" {token}", style="dim")
        if len(ids) > FEW:
            label.append("  …", style="dim")
    return label


def _state(head: dict[str, Any]) -> Text:
    status = f" {head['status']}" if head.get("status") else ""
    return Text(head["state"] + status, style=STATES[head["state"]])


def _tokens(head: dict[str, Any]) -> str:
    if head.get("prompt_tokens") is None:
        return ""
    return f"{head['prompt_tokens']}+{head.get('completion_tokens') or 0}"


def _clock(unix: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix))


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f}" if seconds < 10 else f"{seconds * 1000:.0f}"


def _ids(ids: Sequence[int]) -> str:
    """``1-4 7``: ids in order, runs in short."""
    runs: list[list[int]] = []
    for id in sorted(ids):
        if runs and id == runs[-1][1] + 1:
            runs[-1][1] = id
        else:
            runs.append([id, id])
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
