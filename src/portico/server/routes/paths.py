"""Which path does what: the paths of every protocol, one file each beside this one."""

from __future__ import annotations

from collections.abc import Mapping

from portico.server.http.app import Methods
from portico.server.http.pages import Pages
from portico.server.line.served import Served
from portico.server.observe.metrics import Metrics
from portico.server.routes import (
    adapters,
    anthropic,
    batches,
    decisions,
    embeddings,
    files,
    infill,
    openai,
    prompts,
    responses,
    uploads,
)
from portico.server.routes.about import AboutHandlers
from portico.server.routes.models import ModelHandlers
from portico.server.routes.runs import RunHandlers

__all__ = ["routes"]

BODIES = {
    **openai.BODIES,
    **decisions.BODIES,
    **embeddings.BODIES,
    **prompts.BODIES,
    **infill.BODIES,
    **anthropic.BODIES,
    **responses.BODIES,
    **files.BODIES,
    **batches.BODIES,
    **uploads.BODIES,
    **adapters.BODIES,
}


def routes(
    served: Served, metrics: Metrics, pages: Pages | None = None, inspector: Mapping[str, Methods] | None = None
) -> dict[str, Methods]:
    """Every path of the server, with its handlers. ``pages`` are those for people; ``inspector`` is what belongs to
    them besides."""
    shown = {} if pages is None else {**pages.routes(), **batches.BatchPageHandlers(served).routes()}
    about = AboutHandlers(served, metrics, "/play" if "/play" in shown else None)
    models = ModelHandlers(served)
    paths = {
        **about.routes(),
        **models.routes(),
        **adapters.AdapterHandlers(served).routes(),
        **openai.OpenAIHandlers(served).routes(),
        **decisions.DecisionHandlers(served).routes(),
        **embeddings.EmbeddingHandlers(served).routes(),
        **prompts.PromptHandlers(served).routes(),
        **infill.InfillHandlers(served).routes(),
        **anthropic.AnthropicHandlers(served).routes(models.list_models, models.get_model),
        **responses.ResponseHandlers(served).routes(),
        **responses.ConversationHandlers(served).routes(),
        **files.FileHandlers(served).routes(),
        **batches.BatchHandlers(served).routes(),
        **batches.MessageBatchHandlers(served).routes(),
        **uploads.UploadHandlers(served).routes(),
        **RunHandlers(served.runs).routes(),
    }
    about.describe(paths, BODIES)
    return {**paths, **shown, **(inspector or {})}
