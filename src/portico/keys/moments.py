"""Times as operators write them: 30d, 12h, 2027-01-31, 2027-01-31T12:00Z."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Any, Final

from portico.errors import BadRequestError

__all__ = ["moment", "seconds"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d{1,9})\s*([smhdw])")


def seconds(text: str, name: str) -> float:
    """How long ``text`` is. Raises ``BadRequestError``, which calls it ``name``."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise BadRequestError(f"'{name}' must be a time such as 90s, 30m, 12h or 30d.", param=name)
    return float(int(found[1]) * _UNITS[found[2]])


def moment(value: Any, name: str, now: float | None = None) -> float:
    """When that is, in unix seconds: a date (its beginning) or time as TOML has them, either as text, or a span from
    ``now`` on, if that is given. A time without a zone is UTC. Raises ``BadRequestError``, which calls it ``name``."""
    if now is not None and isinstance(value, str) and _SPAN.fullmatch(value.strip()):
        return now + seconds(value, name)
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip().removesuffix("Z"))
        if not isinstance(value, datetime):
            value = datetime.combine(value, time()) if isinstance(value, date) else None
        if value is not None:
            zoned: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
            return zoned.timestamp()
    except (ValueError, OverflowError):
        pass
    span = "" if now is None else ", or a time from now such as 30d"
    raise BadRequestError(f"'{name}' must be a date such as 2027-01-31{span}.", param=name)
