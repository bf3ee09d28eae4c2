"""Lists by the page: whoever follows the pages sees every item once, in its order; what is no page is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from portico.errors import BadRequestError
from portico.protocols.paging import MOST, USUAL, Window, limit_of, page, window

ITEMS = [{"id": f"item_{number}"} for number in range(23)]


@pytest.mark.parametrize("order", ["asc", "desc", None])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 23])
@pytest.mark.parametrize("limit", [1, 2, 22, 23, 24, None])
def test_pages_follow_each_other_to_the_end(order: str | None, count: int, limit: int | None) -> None:
    query = {name: str(one) for name, one in (("order", order), ("limit", limit)) if one is not None}
    items = ITEMS[:count]
    pages = [page(items, query)]
    while pages[-1]["has_more"]:
        pages.append(page(items, {**query, "after": pages[-1]["last_id"]}))
    assert [one for found in pages for one in found["data"]] == (items if order == "asc" else items[::-1])
    assert [len(found["data"]) for found in pages[:-1]] == [limit or USUAL] * (len(pages) - 1)
    assert pages[-1]["data"] or not items, "the last page is not an empty one"
    for found in pages:
        ids = [item["id"] for item in found["data"]]
        assert found["object"] == "list"
        assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    assert all(before["last_id"] != behind["first_id"] for before, behind in pairwise(pages))


def test_behind_the_last_there_is_nothing() -> None:
    assert page(ITEMS, {"after": ITEMS[0]["id"]}) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(("usual", "most", "digits"), [(20, 100, 4), (1, 1, 1), (10_000, 10_000, 5), (20, 1000, 4)])
def test_a_limit_is_a_number_up_to_the_most(usual: int, most: int, digits: int) -> None:
    for given in ({}, {"limit": ""}):
        assert limit_of(given, usual, most, digits=digits) == usual
    for number in {1, most}:
        assert limit_of({"limit": f"{number}"}, usual, most, digits=digits) == number
        assert limit_of({"limit": f"{number:0{digits}}"}, usual, most, digits=digits) == number
    for wrong in ("0", f"{most + 1}", "-1", "1.0", "x", "²", "٣", " 1", f"{1:0{digits + 1}}", "9" * 5000):
        with pytest.raises(BadRequestError, match=f"'limit' must be a whole number from 1 to {most}") as caught:
            limit_of({"limit": wrong}, usual, most, digits=digits)
        assert caught.value.param == "limit"


def test_a_limit_has_four_digits_unless_said_otherwise() -> None:
    assert limit_of({"limit": "0020"}, 20, 100) == 20
    with pytest.raises(BadRequestError):
        limit_of({"limit": "00020"}, 20, 100)


def test_what_is_wanted() -> None:
    assert window({}) == window({"order": "", "limit": "", "after": ""}) == Window(USUAL, "desc", None)
    assert window({"order": "asc", "limit": "00100", "after": "x"}) == Window(MOST, "asc", "x")
    assert window({}, 7, 50) == Window(7, "desc", None)
    assert window({"limit": "50"}, 7, 50).limit == 50
    wrong = ({"limit": "51"}, "limit"), ({"limit": "000001"}, "limit"), ({"order": "ASC"}, "order")
    for query, param in wrong:
        with pytest.raises(BadRequestError, match=f"'{param}'") as caught:
            window(query, 7, 50)
        assert caught.value.param == param


def test_an_item_that_is_not_there_is_told() -> None:
    for after in ("item_99", "ITEM_1"):
        with pytest.raises(BadRequestError, match="'after'") as caught:
            page([*ITEMS, {}], {"after": after})
        assert caught.value.param == "after"
