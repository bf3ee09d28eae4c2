"""``portico keys``: who may call, from the terminal. Servers over the same store heed it within seconds."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import rich_click as click
from msgspec.structs import replace
from rich.table import Table

from portico.commands.options import settings_from, settings_options
from portico.commands.upkeep import upkeep_of
from portico.config import Settings
from portico.errors import BadRequestError, NotFoundError
from portico.keys import Key, hash_of, moment, new_secret, new_terms, seconds
from portico.keys.audit import Audit
from portico.protocols.times import rfc3339
from portico.terminal import Terminal, echo

__all__ = ["command"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
WHERE = settings_options(["store", "audit_log"])

ONCE = "Its secret is shown once, here, and kept nowhere:"


@click.group("keys")
def command() -> None:
    """Make API keys with names and limits, and take them back.

    They lie in the store that 'portico serve' uses: --store, PORTICO_STORE, or the file in the user's data directory.
    As soon as there is one, servers over that store want a key. Running servers heed every change within seconds.

    Examples:

      portico keys add alice --requests-per-minute 60 --tokens-per-day 2000000 --expires 90d

      portico keys add ci --model 'qwen*' --in-flight 2

      portico keys rotate alice --grace 1d

      portico keys revoke alice
    """


@command.command("add")
@click.argument("name")
@click.option("--model", "models", multiple=True, help="Model(s) that it may use, or shell patterns; all if absent.")
@click.option("--requests-per-minute", type=int, help="Most requests in any minute.")
@click.option("--tokens-per-minute", type=int, help="Most tokens in any minute, of prompts and answers together.")
@click.option("--tokens-per-day", type=int, help="Most tokens in any 24 hours.")
@click.option("--in-flight", type=int, help="Most requests at a time.")
@click.option("--priority", type=int, help="Its requests' priority; lower is served first, 0 is usual.")
@click.option("--operator", is_flag=True, help="Let it load and unload models and adapters, too.")
@click.option("--expires", help="When it ends: 30d, or 2027-01-31.")
@click.option("--secret-stdin", is_flag=True, help="Take the secret from standard input; else one is made.")
@WHERE
@AS_JSON
def add(
    name: str,
    models: tuple[str, ...],
    operator: bool,
    expires: str | None,
    secret_stdin: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Make a key called NAME, and show its secret: once, for it is not kept."""
    from portico.store import keys  # as in all these: what speaks to a database takes its time to import

    now = time.time()
    secret = _read_secret() if secret_stdin else new_secret()
    limits = {name: given.pop(name) for name in (*LIMITS, "priority")}
    until = None if expires is None else moment(expires, "expires", now)
    terms = {**limits, "models": models, "expires": until, "operator": operator}
    key = new_terms(name, hash_of(secret), terms, created_at=now)
    taken = _store(given, partial(keys.add, key=key), make=True)
    if taken == name:
        raise BadRequestError(
            f"There is a key '{name}' already, or was: what it made is not for another. Take another name, or give "
            f"it a new secret with 'portico keys rotate {name}'.",
            param="name",
        )
    if taken is not None:
        raise BadRequestError(f"The key '{taken}' has this secret already.", param="secret")
    _note(given, "key made", key)
    _tell_secret(key, None if secret_stdin else secret, as_json, f"The key [bold]{name}[/bold] is made.")


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Show those that were revoked or have expired, too.")
@WHERE
@AS_JSON
def list_keys(everything: bool, as_json: bool, **given: Any) -> None:
    """Show the keys and what they may do."""
    from portico.store import keys

    now = time.time()
    found = [key for key in _store(given, keys.all_keys) if everything or key.lives(now)]
    if as_json:
        echo(json.dumps([_shown(key, now) for key in found], indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "state", "made", "expires", "models", "limits", "priority"):
        table.add_column(title, overflow="fold")
    for key in found:
        one = _shown(key, now)
        limits = ", ".join(f"{count:,} {words}" for field, words in LIMITS.items() if (count := one.get(field)))
        limits = ", ".join(filter(None, (limits, "operator" if key.operator else "")))
        priority = "" if key.priority is None else str(key.priority)
        state = f"[{COLOURS[one['state']]}]{one['state']}"
        until = _day(key.expires) if key.expires is not None else "never"
        table.add_row(key.name, state, _day(key.created_at), until, ", ".join(key.models) or "all", limits, priority)
    Terminal(highlight=False).print(table)


@command.command("revoke")
@click.argument("name")
@WHERE
@AS_JSON
def revoke(name: str, as_json: bool, **given: Any) -> None:
    """Take the key NAME back, for good. What it asked for before is answered to its end."""
    from portico.store import keys

    now = time.time()

    def revoked(key: Key) -> Key:
        if key.revoked_at is not None:
            raise NotFoundError(f"The key '{name}' was revoked already, on {_day(key.revoked_at)}.")
        return replace(key, revoked_at=now)

    key = _store(given, partial(keys.change, name=name, changed=revoked))
    _note(given, "key revoked", key)
    if as_json:
        echo(json.dumps(_shown(key, now)))
    else:
        Terminal(highlight=False).print(f"The key [bold]{name}[/bold] is revoked; servers refuse it within seconds.")


@command.command("rotate")
@click.argument("name")
@click.option("--grace", default="0s", show_default=True, help="How long the old secret is good, too: 1h, 7d.")
@click.option("--secret-stdin", is_flag=True, help="Take the secret from standard input; else one is made.")
@WHERE
@AS_JSON
def rotate(name: str, grace: str, secret_stdin: bool, as_json: bool, **given: Any) -> None:
    """Give the key NAME a new secret, and show it once. What the key has made stays its own."""
    from portico.store import keys

    now = time.time()
    until = now + seconds(grace, "grace")
    secret = _read_secret() if secret_stdin else new_secret()

    def rotated(key: Key) -> Key:
        if not key.lives(now):
            raise BadRequestError(f"The key '{name}' is {_state(key, now)}: it gets no new secret. Make another.")
        return replace(key, hash=hash_of(secret), former=key.hash, former_until=until)

    key = _store(given, partial(keys.change, name=name, changed=rotated))
    _note(given, "key rotated", key)
    _tell_secret(key, None if secret_stdin else secret, as_json, f"The key [bold]{name}[/bold] has a new secret.")


@command.command("hash")
@AS_JSON
def hash_secret(as_json: bool) -> None:
    """Print the hash of a secret for a keys file: of standard input, or on a terminal of one that is made."""
    made = new_secret() if sys.stdin.isatty() else None
    hash = f"sha256:{hash_of(made or _read_secret())}"
    if as_json:
        echo(json.dumps({"hash": hash} if made is None else {"secret": made, "hash": hash}))
        return
    if made is not None:
        Terminal(stderr=True, highlight=False).print(f"{ONCE}\n{made}\n")
    echo(hash)


LIMITS = {
    "requests_per_minute": "requests/min",
    "tokens_per_minute": "tokens/min",
    "tokens_per_day": "tokens/day",
    "in_flight": "in flight",
}
COLOURS = {"active": "green", "expired": "yellow", "revoked": "red"}


def _store(given: dict[str, Any], work: Callable[[Any], Any], *, make: bool = False) -> Any:
    return upkeep_of(_settings(given)).do(work, make=make)


def _note(given: dict[str, Any], action: str, key: Key) -> None:
    """Write into the audit log that whoever runs this has done that."""
    Audit(_settings(given).audit_log).note(action, getpass.getuser(), key=key.name)


def _settings(given: dict[str, Any]) -> Settings:
    return settings_from(given["config"], {name: given[name] for name in ("store", "audit_log")})


def _read_secret() -> str:
    secret = sys.stdin.readline().strip()
    if len(secret) < 8:
        raise BadRequestError("Standard input must give the secret, of 8 characters or more.", param="secret")
    return secret


def _tell_secret(key: Key, secret: str | None, as_json: bool, told: str) -> None:
    if as_json:
        shown = _shown(key, time.time())
        echo(json.dumps(shown if secret is None else {**shown, "secret": secret}, indent=2))
        return
    Terminal(stderr=True, highlight=False).print(told if secret is None else f"{told} {ONCE}")
    if secret is not None:
        echo(secret)


def _shown(key: Key, now: float) -> dict[str, Any]:
    """A key for people and programs: without its hashes."""
    found: dict[str, Any] = {"name": key.name, "state": _state(key, now), "created_at": rfc3339(key.created_at)}
    for field in ("expires", "revoked_at"):
        if (value := getattr(key, field)) is not None:
            found[field] = rfc3339(value)
    if key.former_until > now:
        found["old_secret_until"] = rfc3339(key.former_until)
    found["models"] = list(key.models)
    for field in (*LIMITS, "priority"):
        if (value := getattr(key, field)) is not None:
            found[field] = value
    if key.operator:
        found["operator"] = True
    return found


def _state(key: Key, now: float) -> str:
    return "revoked" if key.revoked_at is not None else "active" if key.lives(now) else "expired"


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
