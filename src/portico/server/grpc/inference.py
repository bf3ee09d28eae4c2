"""``portico.v1.Inference``: Portico's own typed service."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from portico.engines import EmbeddingBatch
from portico.prompting import Prompt
from portico.protocols.grpc import inference
from portico.protocols.openai import chat, completions, embeddings
from portico.protos import inference_pb2 as pb
from portico.server.grpc.answers import ABOUT, Answer, admitted, new_id, off_loop
from portico.server.line.served import Served

__all__ = ["InferenceService"]


class InferenceService:
    """``portico.v1.Inference``."""

    descriptor = pb.DESCRIPTOR.services_by_name["Inference"]

    def __init__(self, served: Served) -> None:
        self._served = served

    async def Chat(self, request: pb.ChatRequest) -> Answer[pb.Event]:
        started = time.perf_counter()
        checked = await off_loop(partial(inference.chat_request, request))
        with ExitStack() as held:
            by = await self._served.generating(checked.model).get(held)
            prompt = await by.model.prompter.chat(**chat.prompt_arguments(checked))
            generation = await off_loop(partial(chat.generation, checked, prompt, by.model, new_id()))
            encoder = inference.EventEncoder(generation)
            return await admitted(self._served, by, generation, encoder, started, prompt.left_out)

    async def Complete(self, request: pb.CompleteRequest) -> Answer[pb.Event]:
        started = time.perf_counter()
        with ExitStack() as held:
            by = await self._served.generating(request.model or None).get(held)
            checked = await off_loop(partial(inference.completion_request, request, by.model))
            (given,) = await off_loop(partial(completions.prompts, checked, by.model))
            prompt: Prompt = await by.model.prompter.completion(given)
            (generation,) = await off_loop(partial(completions.generations, checked, [prompt], by.model, new_id()))
            return await admitted(self._served, by, generation, inference.EventEncoder(generation), started)

    async def Embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        inputs: list[list[int]] = []
        with ExitStack() as held:
            by = await self._served.embedding(request.model or None).get(held)
            ABOUT.set(by.model.label)
            checked = await off_loop(partial(inference.embedding_requests, request, by.model))
            for one in checked:
                for given in await off_loop(partial(embeddings.inputs, one, by.model)):
                    prompt = await by.model.prompter.completion(given)
                    inputs += embeddings.check_lengths(one, [list(prompt.token_ids)], by.model)
            batch: EmbeddingBatch = await by.line.embed(inputs)
        return inference.embed_response(embeddings.shortened(checked[0], batch.vectors), batch.prompt_tokens)

    async def CountTokens(self, request: pb.CountTokensRequest) -> pb.CountTokensResponse:
        checked = None
        if request.WhichOneof("input") == "chat":
            checked = await off_loop(partial(inference.chat_request, request.chat))
        name = request.model or None if checked is None else checked.model
        with ExitStack() as held:
            model = (await self._served.any(name).get(held)).model
            if checked is not None:
                ids = (await model.prompter.chat(**chat.prompt_arguments(checked))).token_ids
            else:
                ids = (await model.prompter.completion(request.text)).token_ids
        return pb.CountTokensResponse(
            tokens=len(ids), context_length=model.context_length, ids=ids if request.return_ids else ()
        )
