// Vercel's AI SDK, which checks every event against its own schema: node ai_anthropic.mjs URL. Prints one JSON value.
// PORTICO_TEST_AI is the version of the SDK.
import { z } from "zod";

const six = process.env.PORTICO_TEST_AI === "6";
const { createAnthropic } = await import(six ? "ai-6-anthropic" : "@ai-sdk/anthropic");
const { generateText, Output, stepCountIs, streamText, tool } = await import(six ? "ai-6" : "ai");

globalThis.AI_SDK_LOG_WARNINGS = false;
const model = createAnthropic({ baseURL: `${process.argv[2]}/v1`, apiKey: process.env.PORTICO_TEST_KEY ?? "none" })(
  "tiny",
);
const get_weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city} [[answer]]`,
});
const providerOptions = { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } };
const loop = {
  model,
  providerOptions,
  tools: { get_weather },
  stopWhen: stepCountIs(3),
  maxOutputTokens: 4000,
  maxRetries: 0,
};

const whole = await generateText({ ...loop, prompt: "[[thinks_and_calls]]" });

const errors = [];
const streamed = streamText({
  ...loop,
  prompt: "[[thinks_and_calls]]",
  onError: (event) => errors.push(String(event.error)),
});
const parts = {};
for await (const part of streamed.fullStream) parts[part.type] = (parts[part.type] ?? 0) + 1;

const output = Output.object({ schema: z.object({ city: z.string() }) });
const object = await generateText({ model, prompt: "[[json]]", output, maxOutputTokens: 4000, maxRetries: 0 });

console.log(
  JSON.stringify({
    whole: whole.text,
    reasoning: whole.steps[0].reasoningText,
    calls: whole.steps[0].toolCalls.map((call) => [call.toolName, call.input]),
    streamed: await streamed.text,
    parts,
    errors,
    object: object.output,
  }),
);
