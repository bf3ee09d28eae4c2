// The Responses API by Vercel's AI SDK: node ai_responses.mjs URL PROVIDER, where PROVIDER is openai, whose models speak
// this API unless told otherwise, or open-responses. PORTICO_TEST_AI is the version of the SDK. Prints one JSON value.
import { z } from "zod";

const six = process.env.PORTICO_TEST_AI === "6";
const { createOpenAI } = await import(six ? "ai-6-openai" : "@ai-sdk/openai");
const { createOpenResponses } = await import(six ? "ai-6-open-responses" : "@ai-sdk/open-responses");
const { generateText, Output, stepCountIs, streamText, tool } = await import(six ? "ai-6" : "ai");

globalThis.AI_SDK_LOG_WARNINGS = false;
const [url, provider] = process.argv.slice(2);
const apiKey = process.env.PORTICO_TEST_KEY;
const model =
  provider === "openai"
    ? createOpenAI({ baseURL: `${url}/v1`, apiKey })("tiny")
    : createOpenResponses({ name: "portico", url: `${url}/v1/responses`, apiKey })("tiny");
const openai = { reasoningSummary: "auto", forceReasoning: true };
const rules = { model, maxRetries: 0, providerOptions: { openai } };
const get_weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city} [[sunny]]`,
});
const asked = { ...rules, tools: { get_weather }, stopWhen: stepCountIs(3), prompt: "[[calls]]" };

const whole = await generateText(asked);
const errors = [];
const streamed = streamText({ ...asked, onError: (event) => errors.push(String(event.error)) });
const parts = {};
for await (const part of streamed.fullStream) {
  parts[part.type] = (parts[part.type] ?? 0) + 1;
  if (part.type === "error") errors.push(String(part.error));
}
// the conversation goes on with what came back, ids and all
const messages = six ? (await streamed.response).messages : await streamed.responseMessages;
const next = await generateText({
  ...rules,
  tools: { get_weather },
  messages: [{ role: "user", content: "[[calls]]" }, ...messages, { role: "user", content: "And? [[plain]]" }],
});
const stateless = await generateText({ ...asked, providerOptions: { openai: { ...openai, store: false } } });
const structured = await generateText({
  ...rules,
  prompt: "[[json]]",
  output: Output.object({ schema: z.object({ city: z.string() }) }),
});

console.log(
  JSON.stringify({
    whole: whole.text,
    steps: whole.steps.map((step) => step.finishReason),
    reasoning: whole.steps[0].reasoningText ?? null,
    calls: whole.steps[0].toolCalls.map((call) => [call.toolName, call.input]),
    streamed: await streamed.text,
    streamed_reasoning: (await streamed.steps)[0].reasoningText ?? null,
    usage: await streamed.usage,
    parts,
    errors,
    next: next.text,
    stateless: stateless.text,
    object: structured.output,
  }),
);
