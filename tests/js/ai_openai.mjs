// Vercel's AI SDK, which checks every chunk against its own schema: node ai_openai.mjs URL PROVIDER PROMPTS, where
// PROVIDER is openai or compatible and PROMPTS a JSON object. Prints what came out as one JSON value.
// PORTICO_TEST_AI is the version of the SDK.
import { z } from "zod";

const six = process.env.PORTICO_TEST_AI === "6";
const { createOpenAI } = await import(six ? "ai-6-openai" : "@ai-sdk/openai");
const { createOpenAICompatible } = await import(six ? "ai-6-openai-compatible" : "@ai-sdk/openai-compatible");
const { embedMany, generateText, Output, stepCountIs, streamText, tool } = await import(six ? "ai-6" : "ai");

globalThis.AI_SDK_LOG_WARNINGS = false;
const [url, provider, prompts] = process.argv.slice(2);
const { plain, loop, choice, object } = JSON.parse(prompts);
const name = process.env.PORTICO_TEST_MODEL ?? "tiny";
const embedder = process.env.PORTICO_TEST_EMBEDDING_MODEL ?? "tiny";
const settings = { baseURL: `${url}/v1`, apiKey: process.env.PORTICO_TEST_KEY ?? "none" };
const made =
  provider === "openai"
    ? createOpenAI(settings)
    : createOpenAICompatible({ ...settings, name: "portico", includeUsage: true, supportsStructuredOutputs: true });
const model = provider === "openai" ? made.chat(name) : made.chatModel(name);
const rules = {
  model,
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: Number(process.env.PORTICO_TEST_MAX_TOKENS ?? 4000),
};

const get_weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.enum(["Paris"]) }),
  execute: async ({ city }) => `sunny in ${city} [[answer]]`,
});
// A tool that must be used must be used once only, or there would be no end.
const prepareStep = ({ stepNumber }) => (stepNumber && choice ? { toolChoice: "none" } : {});
const asked = {
  ...rules,
  tools: { get_weather },
  toolChoice: choice,
  prepareStep,
  stopWhen: stepCountIs(3),
  providerOptions: { portico: { parallel_tool_calls: choice !== "required" } }, // else how many is the model's taste
  prompt: loop,
};

const short = await generateText({ ...rules, prompt: plain });
const whole = await generateText(asked);
const errors = [];
const streamed = streamText({ ...asked, onError: (event) => errors.push(String(event.error)) });
const parts = {};
for await (const part of streamed.fullStream) parts[part.type] = (parts[part.type] ?? 0) + 1;
const output = Output.object({ schema: z.object({ city: z.enum(["Paris"]) }) });
const structured = await generateText({ ...rules, prompt: object, output });
const streamedObject = streamText({ ...rules, prompt: object, output });
const embedded = await embedMany({
  model: made.embeddingModel ? made.embeddingModel(embedder) : made.textEmbeddingModel(embedder),
  values: ["a", "b"],
  maxRetries: 0,
});

console.log(
  JSON.stringify({
    plain: short.text,
    usage: short.usage,
    finish: short.finishReason,
    whole: whole.text,
    reasoning: whole.steps[0].reasoningText ?? null,
    calls: whole.steps[0].toolCalls.map((call) => [call.toolName, call.input]),
    steps: whole.steps.map((step) => step.finishReason),
    streamed: await streamed.text,
    streamed_calls: (await streamed.steps)[0].toolCalls.map((call) => [call.toolName, call.input]),
    parts,
    errors,
    object: structured.output,
    streamed_object: await streamedObject.output,
    embeddings: embedded.embeddings,
    embedding_usage: embedded.usage,
  }),
);
