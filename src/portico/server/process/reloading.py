"""SIGHUP: the settings are read anew, and what can change while a server runs does.

Those are the API keys, with the file that has them, their bound, the log level, what is in the TLS files, and, unless
workers share them, everything that is chosen for models. The process that was started reads and tells; a worker is
handed what it read, but for those files, which every process reads.
A file that is wrong changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from portico.config import ModelSettings, Settings
from portico.errors import PorticoError
from portico.keys import Key, hash_of, read_keys
from portico.keys.audit import Audit
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.process.certificates import Certificates
from portico.server.process.listener import refuse_to_be_open

__all__ = ["OF_AN_ENGINE", "OF_A_SERVER", "OF_WORKERS", "Live", "Reloading"]

log = logging.getLogger("portico")

OF_AN_ENGINE: Final = frozenset({"api_key", "log_level"})
OF_WORKERS: Final = OF_AN_ENGINE | {"keys_file", "max_per_key"}
OF_A_SERVER: Final = OF_WORKERS.union(
    ("models", "embedding_model", "max_loaded", "load_queue"), ModelSettings.model_fields
)


class Live:
    """Settings of a server that runs: ``change`` puts others in force, from any thread and at any time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, keys: Keys, certificates: Certificates, gate: Gate, models: Callable[[Settings], None]) -> None:
        """From now on what changes is applied, to these too; so is what has changed before. ``models`` is called when
        the models change. Raises ``BadRequestError`` where a file cannot be read."""
        self._keys = keys
        self._gate = gate
        self._models = models
        self._served = _of_models(self._settings)
        self._certificates = certificates
        self._loop = asyncio.get_running_loop()
        self._apply()

    def change(self, settings: Settings) -> None:
        """These are in force now."""
        self._settings = settings
        if self._loop is not None:
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._apply_or_tell)

    def _apply(self) -> None:
        log.setLevel(self._settings.log_level.upper())
        secrets = [Key(hash=hash_of(key.get_secret_value())) for key in self._settings.api_key]
        self._keys.accept([*secrets, *_of_file(self._settings)])
        self._certificates.read_again()
        self._gate.bound(self._settings.in_flight, self._settings.max_per_key)
        if (wanted := _of_models(self._settings)) != self._served:
            self._models(self._settings)
            self._served = wanted

    def _apply_or_tell(self) -> None:
        """For a file that has changed again since whoever told of it has read it."""
        try:
            self._apply()
        except PorticoError as error:
            log.error("keys, certificates or models stay as they are: %s", error.message)


class Reloading:
    """Heeds SIGHUP: ``again`` reads the settings anew, ``apply`` gets them with those of the ``changeable`` that have
    changed."""

    def __init__(
        self,
        settings: Settings,
        again: Callable[[], Settings] | None,
        apply: Callable[[Settings], None],
        changeable: frozenset[str],
    ) -> None:
        self._settings = settings
        self._changeable = changeable
        self._again = again
        self._apply = apply
        self._keys = _of_file(settings)
        self._chain = Certificates(settings).chain

    def begin(self) -> None:
        """Reload at every SIGHUP from now on, in the running loop; there is none on Windows."""
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read the settings, change what can be, and tell it in one line."""
        if self._again is None:
            return
        try:
            read = self._again()
            changeable = self._changeable if _named(read) else self._changeable & OF_WORKERS
            now = self._settings.model_copy(update={name: getattr(read, name) for name in changeable})
            refuse_to_be_open(now)
            keys = _of_file(read)
            chain = Certificates(self._settings).chain
        except PorticoError as error:
            log.error("the settings stay as they are: %s", error.message)
            return
        changed = [name for name in type(read).model_fields if getattr(read, name) != getattr(self._settings, name)]
        told = list(self._told(now, [name for name in changed if name in changeable]))
        if keys != self._keys:
            told.append(f"{len(keys)} keys in {read.keys_file}" if read.keys_file else "no keys file")
        if chain != self._chain:
            told.append("another certificate")
        told = told or ["nothing has changed"]
        if waiting := [name for name in changed if name not in changeable]:
            told.append(f"a restart is needed for {', '.join(waiting)}")
        self._settings = now
        self._keys, self._chain = keys, chain
        level = logging.getLevelName(read.log_level.upper())
        log.setLevel(min(level, log.level))  # of both, the level that tells more
        log.warning("the settings were read anew: %s", "; ".join(told))
        log.setLevel(level)
        Audit(self._settings.audit_log).note("settings read anew", "SIGHUP", told="; ".join(told))
        self._apply(self._settings)

    def _told(self, now: Settings, changed: list[str]) -> Iterator[str]:
        if "api_key" in changed:
            old, new = ({key.get_secret_value() for key in one.api_key} for one in (self._settings, now))
            yield f"{len(new - old)} API keys more, {len(old - new)} less"
        if "log_level" in changed:
            yield f"log_level {self._settings.log_level} → {now.log_level}"
        if others := [name for name in changed if name not in ("api_key", "keys_file", "log_level", "models")]:
            yield f"{', '.join(others)} changed"
        was, then = ([one.of_model for one in settings.each_model] for settings in (self._settings, now))
        if was != then:
            yield f"{sum(one not in was for one in then)} models more, {sum(one not in then for one in was)} less"


def _of_models(settings: Settings) -> list[object]:
    """What the models that are served are, and how many of them are loaded."""
    return [settings.max_loaded, settings.load_queue, *(one.of_model for one in settings.each_model)]


def _named(settings: Settings) -> bool:
    """Whether it is known what every model is called before its engine has been asked."""
    return all(one.served_model_name or not one.elsewhere for one in settings.each_model)


def _of_file(settings: Settings) -> list[Key]:
    """The keys in the file that the settings name, if any. Raises ``BadRequestError``."""
    return read_keys(settings.keys_file) if settings.keys_file is not None else []
