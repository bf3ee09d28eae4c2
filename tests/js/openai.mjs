// The official client against a server: node openai.mjs URL SCENARIO… Prints what came out, one JSON value a line.
import OpenAI, { toFile } from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, ...wanted] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.PORTICO_TEST_KEY ?? "none", maxRetries: 0 });
const model = process.env.PORTICO_TEST_MODEL ?? "tiny";
const max_tokens = Number(process.env.PORTICO_TEST_MAX_TOKENS ?? 4000);
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const ask = (text) => ({ model, max_tokens, temperature: 0, messages: [{ role: "user", content: text }] });
const City = z.object({ city: z.string() });
// what a model that is held to it can say in one way only
const paris = {
  type: "object",
  properties: { city: { enum: ["Paris"] } },
  required: ["city"],
  additionalProperties: false,
};
const certain = [{ type: "function", function: { name: "get_weather", parameters: paris } }];

// The question, the calls, their results, and the answer to those.
async function roundTrip(request, first) {
  const results = first.message.tool_calls.map((call) => ({
    role: "tool",
    tool_call_id: call.id,
    content: `sunny in ${JSON.parse(call.function.arguments).city} [[answer]]`,
  }));
  const { tool_choice, ...again } = { ...request, messages: [...request.messages, first.message, ...results] };
  return (await client.chat.completions.create(again)).choices[0];
}

const scenarios = {
  async create() {
    const { data, response } = await client.chat.completions.create(ask("[[plain]]")).withResponse();
    return { completion: data, request_id: data._request_id, header: response.headers.get("x-request-id") };
  },

  async stream() {
    const runner = client.chat.completions.stream({ ...ask("[[plain]]"), stream_options: { include_usage: true } });
    let text = "";
    runner.on("content", (piece) => (text += piece));
    const completion = await runner.finalChatCompletion();
    return { text, completion };
  },

  async raw_stream() {
    const chunks = [];
    const stream = await client.chat.completions.create({ ...ask("[[thinks]]"), stream: true });
    for await (const chunk of stream) chunks.push(chunk);
    return chunks;
  },

  async tool_round_trip() {
    const request = { ...ask("[[calls]]"), tools };
    const first = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0];
    return { first, second: await roundTrip(request, first) };
  },

  async required_tool() {
    const question = ask("What is the weather in Paris?");
    const request = { ...question, tools: certain, tool_choice: "required", parallel_tool_calls: false };
    const whole = (await client.chat.completions.create(request)).choices[0];
    const first = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0];
    return { whole, first, second: await roundTrip(request, first) };
  },

  // the client's own loop: it calls the function and asks again until there is nothing left to call
  async run_tools() {
    const seen = [];
    const get_weather = (given) => (seen.push(given), `sunny in ${given.city} [[answer]]`);
    const runner = client.chat.completions.runTools({
      ...ask("[[calls]]"),
      stream: true,
      tools: [
        { type: "function", function: { name: "get_weather", parameters, parse: JSON.parse, function: get_weather } },
      ],
    });
    return { seen, answer: await runner.finalContent() };
  },

  async parse() {
    const request = { ...ask("[[json]] Paris"), response_format: zodResponseFormat(City, "city") };
    const parsed = await client.chat.completions.parse(request);
    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    return { parsed: parsed.choices[0].message.parsed, streamed: streamed.choices[0].message.parsed };
  },

  async parse_tool() {
    const strict = zodFunction({ name: "get_weather", parameters: City });
    const request = { ...ask("[[calls]] weather in Paris"), tools: [strict], tool_choice: "required" };
    const message = (await client.chat.completions.parse(request)).choices[0].message;
    return message.tool_calls.map((call) => call.function.parsed_arguments);
  },

  async completions() {
    const request = { model, max_tokens: Math.min(max_tokens, 20), temperature: 0, prompt: "[[plain]]" };
    const whole = await client.completions.create(request);
    let text = "";
    for await (const chunk of await client.completions.create({ ...request, stream: true }))
      text += chunk.choices[0].text;
    return { whole: whole.choices[0].text, text };
  },

  // floats travel as base64 unless the caller says otherwise
  async embeddings() {
    const request = { model: process.env.PORTICO_TEST_EMBEDDING_MODEL ?? "tiny", input: ["a", "b"] };
    const usual = await client.embeddings.create(request);
    const floats = await client.embeddings.create({ ...request, encoding_format: "float" });
    return { usual: usual.data.map((one) => one.embedding), floats: floats.data.map((one) => one.embedding) };
  },

  async models() {
    const listed = [];
    for await (const one of client.models.list()) listed.push(one);
    return { listed, one: await client.models.retrieve(model) };
  },

  // the form has its fields in the order of the object: the file stands first here
  async files() {
    const expires_after = { anchor: "created_at", seconds: 3600 };
    const file = await toFile(Buffer.from("data ☃"), "ä b.txt");
    const made = await client.files.create({ file, purpose: "user_data", expires_after });
    const listed = [];
    for await (const one of client.files.list({ purpose: "user_data" })) listed.push(one.id);
    const text = await (await client.files.content(made.id)).text();
    return { made, listed, text, gone: await client.files.delete(made.id) };
  },

  async abort() {
    const stream = await client.chat.completions.create({ ...ask("[[plain]]"), stream: true });
    for await (const _chunk of stream) break;
    return stream.controller.signal.aborted;
  },

  async errors() {
    const failing = {
      unknown_model: () => client.chat.completions.create({ ...ask("x"), model: "nobody" }),
      bad_request: () => client.chat.completions.create({ ...ask("x"), temperature: -1 }),
      bad_key: () => client.withOptions({ apiKey: "wrong" }).chat.completions.create(ask("x")),
      engine: () => client.chat.completions.create(ask("[[fails]]")),
      mid_stream: () => client.chat.completions.stream(ask("[[fails]]")).finalChatCompletion(),
    };
    const told = {};
    for (const [name, fail] of Object.entries(failing)) {
      try {
        await fail();
        told[name] = null;
      } catch (error) {
        const { status, code, param, message } = error;
        told[name] = { class: error.constructor.name, status: status ?? null, code, param, message };
      }
    }
    return told;
  },
};

for (const name of wanted) console.log(JSON.stringify(await scenarios[name]()));
