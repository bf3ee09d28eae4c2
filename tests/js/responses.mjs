// The Responses API by OpenAI's own client: node responses.mjs URL. Prints what came out as one JSON value.
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: process.env.PORTICO_TEST_KEY, maxRetries: 0 });
const model = "tiny";
const City = z.object({ city: z.string() });
const tools = [zodResponsesFunction({ name: "get_weather", parameters: City })];

const first = await client.responses.create({ model, input: "[[plain]]" });
const again = await client.responses.retrieve(first.id);
const second = await client.responses.create({ model, input: "[[plain]]", previous_response_id: first.id });
const items = [];
for await (const item of client.responses.inputItems.list(second.id, { order: "asc" })) items.push(item.role);

const kinds = {};
const runner = client.responses.stream({ model, input: "[[calls]]", tools, reasoning: { summary: "auto" } });
for await (const event of runner) kinds[event.type] = (kinds[event.type] ?? 0) + 1;
const streamed = await runner.finalResponse();
const parsed = await client.responses.parse({
  model,
  input: "[[json]]",
  text: { format: zodTextFormat(City, "city") },
});

const numbers = [];
let background = null;
for await (const event of await client.responses.create({ model, input: "[[long]]", background: true, stream: true })) {
  background ??= event.response.id;
  numbers.push(event.sequence_number);
  if (event.sequence_number === 9) break;
}
const resumed = await client.responses.retrieve(background, { stream: true, starting_after: 9 });
let end = null;
for await (const event of resumed) {
  numbers.push(event.sequence_number);
  end = event;
}
const refused = await client.responses.retrieve("resp_nobody").catch((error) => error);

console.log(
  JSON.stringify({
    text: first.output_text,
    again: again.output_text,
    items,
    kinds,
    output: streamed.output.map((item) => item.type),
    call: streamed.output.at(-1).parsed_arguments,
    parsed: parsed.output_parsed,
    numbers,
    end: end.response.output[0].content[0].text,
    refused: refused.constructor.name,
  }),
);
