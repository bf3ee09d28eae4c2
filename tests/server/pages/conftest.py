"""The browser, for every test of the pages."""

from __future__ import annotations

from support.browser import browser, context, forget, open_page, pictures, violations  # noqa: F401  (fixtures)
from support.js import js  # noqa: F401  (a fixture)
