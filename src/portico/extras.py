"""How to install what is not installed by default, as an operator can type it."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit

__all__ = ["installing"]


def installing(extra: str) -> str:
    """The command that installs the extra of that name, from where this package was installed from: usually a clone,
    since no index has it under this name (PEP 610 says where that is written)."""
    try:
        origin = json.loads(distribution("portico").read_text("direct_url.json") or "{}").get("url", "")
    except (PackageNotFoundError, ValueError):
        origin = ""
    url = urlsplit(origin)
    if url.scheme == "file" and not url.path.endswith(".whl"):
        return f"pip install {shlex.quote(f'{unquote(url.path)}[{extra}]')}"
    return f"pip install '.[{extra}]' in a clone of Portico"
