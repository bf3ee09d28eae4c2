"""Which model a request is for: by name, alias, adapter or pattern, as far as its key may; else the first that can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from portico.errors import (
    EngineDeadError,
    ModelNotFoundError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PermissionDeniedError,
    PorticoError,
)
from portico.generation import Card
from portico.keys import KEY, Key
from portico.server.line.line import Line
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import LONGEST_NAME, FileBounds, Served, Wanted
from portico.server.observe.metrics import Metrics
from support.generation import tiny_model

GENERATES, EMBEDS = frozenset({"generate"}), frozenset({"embed"})
METRICS = Metrics()


def able(name: str, capabilities: frozenset[str], names: Sequence[str] = (), adapters: Sequence[str] = ()) -> Any:
    """A model that is loaded, over an engine that does nothing."""
    engine = SimpleNamespace(healthy=True, info=SimpleNamespace(model=name))
    line = Line(cast(Any, engine), METRICS)
    model = tiny_model(name=name, capabilities=capabilities, created=7)
    loras = [tiny_model(name=one, parent=name, capabilities=capabilities) for one in adapters]
    return ServedModel(model, [name, *names], line, adapters=loras, patterns=(f"{name}-*",))


def house() -> Served:
    """A chat model with an alias, an adapter and a pattern; one of vectors; one that nobody has loaded yet, which may
    be able to anything, and one of which it is known what it does."""
    return Served(
        Offers(
            [
                Offer.standing(able("chat", GENERATES, ["alias"], ["dutch"])),
                Offer.standing(able("vectors", EMBEDS)),
                Offer(["unknown", "unheard"], cast(Any, None), ["*-of-unknown"], created=9),
                Offer(["asleep"], cast(Any, None), ["asleep-*"], (), EMBEDS, 512, 3),
            ]
        )
    )


CARDS = [
    Card(name="chat", root="chat", created=7, capabilities=GENERATES, context_length=4096),
    Card(name="alias", root="chat", created=7, capabilities=GENERATES, context_length=4096),
    Card(name="dutch", root="dutch", parent="chat", created=7, capabilities=GENERATES, context_length=4096),
    Card(name="vectors", root="vectors", created=7, capabilities=EMBEDS, context_length=4096),
    *(
        Card(name=name, root="unknown", created=9, capabilities=frozenset(), context_length=None, state="unloaded")
        for name in ("unknown", "unheard")
    ),
    Card(name="asleep", root="asleep", created=3, capabilities=EMBEDS, context_length=512, state="unloaded"),
]
# by what a key may use: the names that it sees
SEEN = {
    (): [card.name for card in CARDS],
    ("chat",): ["chat", "alias"],
    ("alias",): ["chat", "alias"],
    ("dutch",): ["dutch"],
    ("vectors", "a*p"): ["vectors", "asleep"],
    ("nobody",): [],
}


@contextmanager
def key(models: Sequence[str]) -> Iterator[None]:
    token = KEY.set(Key(name="ann", models=tuple(models)))
    try:
        yield
    finally:
        KEY.reset(token)


def refusal(ask: Callable[[], Any]) -> tuple[type[PorticoError], str | None, str]:
    with pytest.raises(PorticoError) as caught:
        ask()
    return type(caught.value), caught.value.param, caught.value.message


@pytest.mark.parametrize("models", SEEN, ids=", ".join)
def test_a_key_has_what_it_sees_and_nothing_else(models: tuple[str, ...]) -> None:
    served = house()
    with key(models):
        assert list(served.cards) == [card for card in CARDS if card.name in SEEN[models]]
        assert [name for name, _ in served.loaded] == [
            card.name for card in CARDS if card.name in SEEN[models] and card.state == "loaded"
        ]
        assert all(model.name == name for name, model in served.loaded)
        for card in CARDS:
            assert served.has(card.name)
            if card.name in SEEN[models]:
                assert served.card(card.name) == card
                wanted = served.any(card.name)
                assert (wanted.offer.names[0], wanted.name) == (card.parent or card.root, card.name)
                assert wanted.loaded is (card.state == "loaded")
                assert wanted.offers is served.offers
                continue
            for ask in (served.model, served.card, served.any, served.generating, served.embedding):
                refused = refusal(lambda ask=ask, name=card.name: ask(name))
                assert refused[:2] == (PermissionDeniedError, "model")
                assert refused[2].endswith(f"it may use: {', '.join(models)}.")


def test_a_name_that_nobody_has_is_told_with_those_that_are_there() -> None:
    served = house()
    for name in ("none", "Chat", "chat-" + "x" * LONGEST_NAME, "chat", "dutch"):
        with key(("vectors",)):
            known = served.has(name)
            found = refusal(lambda name=name: served.model(name))
        told = "There is no such model here. Served: vectors."
        assert found[0] is (PermissionDeniedError if known else ModelNotFoundError)
        assert found[1] == "model"
        assert known or found[2] == told
    assert "Served: chat, alias, dutch, vectors, unknown, unheard, asleep." in refusal(lambda: served.model("none"))[2]


@pytest.mark.parametrize(
    ("name", "found"),
    {
        "chat-4": "chat",
        "chat-of-unknown": "chat",  # the first whose pattern it is
        "x-of-unknown": "unknown",
        "asleep-1": "asleep",
        "chat-" + "x" * (LONGEST_NAME - 5): "chat",
    }.items(),
)
def test_a_pattern_is_of_names_that_nobody_has(name: str, found: str) -> None:
    served = house()
    assert served.model(name).offer.names[0] == found
    assert not served.has(name)
    assert served.card(name).root == found
    with key([found]):
        served.model(name)
    with key([name]):  # the key is for a model, not for how somebody calls it
        assert refusal(lambda: served.model(name))[0] is PermissionDeniedError


# model asked for -> the first name of the one that generates, and of the one that embeds; None: it is not able
ABLE: dict[str | None, tuple[str | None, str | None]] = {
    None: ("chat", "vectors"),
    "": ("chat", "vectors"),
    "chat": ("chat", None),
    "alias": ("chat", None),
    "dutch": ("chat", None),
    "vectors": (None, "vectors"),
    "unknown": ("unknown", "unknown"),
    "asleep": (None, "asleep"),
    "chat-4": ("chat", "vectors"),  # a pattern is about names, whatever is asked of the model
    "asleep-1": ("chat", "asleep"),
}


@pytest.mark.parametrize("name", ABLE)
def test_what_is_asked_must_be_able_to_do_it(name: str | None) -> None:
    served = house()
    words = ("does not generate text", "does not make embeddings")
    for ask, found, lack in zip((served.generating, served.embedding), ABLE[name], words, strict=True):
        if found is None:
            assert refusal(lambda ask=ask: ask(name)) == (NotSupportedError, "model", f"The model '{name}' {lack}.")
            continue
        wanted = ask(name)
        assert (wanted.offer.names[0], wanted.name) == (found, name or None)
        assert wanted.offers is served.offers
        if not wanted.loaded:
            continue
        with ExitStack() as held:
            model = wanted.now(held)
            assert model.model.name == (name or found)
            assert model.line.in_use
            assert asyncio.run(wanted.get(held)).model == model.model
        assert not model.line.in_use


def test_what_was_only_guessed_is_looked_at_again() -> None:
    """A model that is loaded at last may not be able to do what nobody knew of it."""
    served = house()
    asked = served.embedding("unknown"), served.generating("unknown")
    asked[0].offer.has(able("unknown", GENERATES))
    with ExitStack() as held:
        assert refusal(lambda: asked[0].now(held)) == (
            NotSupportedError,
            "model",
            "The model 'unknown' does not make embeddings.",
        )
        assert asked[1].now(held).model.name == "unknown"
        assert Wanted(served.offers, asked[0].offer, None).now(held).names == ["unknown"], "nothing is asked of it"
        for name in ("chat", "alias", "dutch"):
            found = served.model(name).now(held) if name == "chat" else served.generating(name).now(held)
            assert found.model.name == name
            assert found.model.label == ("chat" if name == "alias" else name), "what it is counted by"


def test_without_a_name_it_is_the_first_that_the_key_may_use() -> None:
    served = house()
    for models, anything, generates, embeds in (
        ((), "chat", "chat", "vectors"),
        (("vectors", "unheard"), "vectors", "unknown", "vectors"),
        (("asleep", "alias"), "chat", "chat", "asleep"),
    ):
        with key(models):
            assert served.any(None).offer.names[0] == anything
            assert (served.any(None).name, served.any("").name) == (None, None)
            assert served.generating(None).offer.names[0] == generates
            assert served.embedding(None).offer.names[0] == embeds
    with key(("nobody",)):
        for ask in (served.any, served.generating, served.embedding):
            assert refusal(lambda ask=ask: ask(None))[0] is PermissionDeniedError
    empty = Served(Offers([]))
    for ask in (empty.any, empty.generating, empty.embedding):
        assert refusal(lambda ask=ask: ask(None))[:2] == (ModelNotFoundError, "model")
    deaf = Served(Offers([Offer.standing(able("vectors", EMBEDS))]))
    assert refusal(lambda: deaf.generating(None))[2] == "The model 'vectors' does not generate text."


def test_it_is_ready_while_every_engine_is() -> None:
    served = house()
    assert served.healthy
    served.check_ready()
    chat, vectors = (served.model(name).offer for name in ("chat", "vectors"))
    assert chat.served is not None
    assert vectors.served is not None
    engine = cast(Any, vectors.served.line.engine)
    engine.healthy = False
    assert not served.healthy
    with pytest.raises(EngineDeadError, match="'vectors'") as gone:
        served.check_ready()
    assert gone.value.retry_after == 1
    vectors.state = "unloading"
    assert served.healthy, "it is to go"
    served.check_ready()
    vectors.state, engine.healthy = "loaded", True
    served.drain()
    assert not served.healthy
    assert served.draining
    assert all(one.line.draining for one in served.models)
    with pytest.raises(OverloadedError) as draining:
        served.check_ready()
    assert (draining.value.code, draining.value.retry_after) == ("draining", 1)
    with ExitStack() as held, pytest.raises(OverloadedError):
        asyncio.run(served.model("asleep").get(held))


def test_all_models_together() -> None:
    served = house()
    assert [one.model.name for one in served.models] == ["chat", "vectors"]
    ended: list[tuple[str, Exception]] = []
    for number, one in enumerate(served.models):
        line: Any = one.line
        line._flights = set(range(number + 2))
        line.fail_all = lambda error, name=one.model.name: ended.append((name, error))
    assert served.in_flight == 5
    error = EngineDeadError("x")
    served.fail_all(error)
    assert ended == [("chat", error), ("vectors", error)]


def test_what_is_kept_is_kept_somewhere() -> None:
    served = house()
    with pytest.raises(NotFoundError, match="nothing is kept"):
        served.store_for("nothing is kept")
    store: Any = object()
    bounds = FileBounds(1, 2)
    keeping = Served(Offers([]), 3.0, "key", 4.0, store, ["host"], bounds)
    assert keeping.store_for("") is keeping.store is store
    assert (keeping.request_timeout, keeping.signing_key, keeping.runs.grace) == (3.0, "key", 4.0)
    assert (keeping.mcp_allow, keeping.file_bounds) == (["host"], bounds)
    assert served.file_bounds == FileBounds()
    assert not served.draining
