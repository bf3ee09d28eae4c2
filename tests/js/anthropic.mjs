// The official client against a server: node anthropic.mjs URL SCENARIO. Prints what came out as one JSON value.
import Anthropic from "@anthropic-ai/sdk";

const [url, scenario] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: process.env.PORTICO_TEST_KEY ?? "none", maxRetries: 0 });
const model = process.env.PORTICO_TEST_MODEL ?? "tiny";
const tools = [
  {
    name: "get_weather",
    description: "The weather of a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const most = Number(process.env.PORTICO_TEST_MAX_TOKENS ?? 4000);
const ask = (text) => ({ model, max_tokens: most, messages: [{ role: "user", content: text }] });

const scenarios = {
  async create() {
    return await client.messages.create(ask("[[plain]]"));
  },

  async stream() {
    const stream = client.messages.stream(ask("[[plain]]"));
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const message = await stream.finalMessage();
    return { text, message };
  },

  // a question, the call it leads to, its result, the answer: each turn streamed, all blocks sent back
  async tool_round_trip() {
    const request = { ...ask("[[calls]] Paris and Rome?"), tools };
    const first = await client.messages.stream(request).finalMessage();
    const results = first.content
      .filter((block) => block.type === "tool_use")
      .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: `sunny in ${block.input.city}` }));
    const second = await client.messages.create({
      ...request,
      messages: [
        ...request.messages,
        { role: "assistant", content: first.content },
        { role: "user", content: [...results, { type: "text", text: "[[answer]]" }] },
      ],
    });
    return { first, second };
  },

  async thinking_round_trip() {
    const request = { ...ask("[[thinks]]"), thinking: { type: "enabled", budget_tokens: 1024 } };
    const thoughts = [];
    const stream = client.messages.stream(request);
    stream.on("thinking", (piece) => thoughts.push(piece));
    const first = await stream.finalMessage();
    const second = await client.messages.create({
      ...request,
      messages: [
        ...request.messages,
        { role: "assistant", content: first.content },
        { role: "user", content: "[[plain]]" },
      ],
    });
    return { thoughts: thoughts.join(""), first, second };
  },

  async structured() {
    const schema = {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    };
    return await client.messages.create({
      ...ask("[[json]]"),
      output_config: { format: { type: "json_schema", schema } },
    });
  },

  async count_tokens() {
    const { max_tokens, ...request } = { ...ask("[[plain]]"), tools, system: "Be brief." };
    const counted = await client.messages.countTokens(request);
    const message = await client.messages.create({ ...request, max_tokens: 10 });
    return { counted, usage: message.usage };
  },

  async models() {
    const listed = [];
    for await (const one of client.models.list({ limit: 1 })) listed.push(one);
    return { listed, one: await client.models.retrieve(model) };
  },

  async errors() {
    const failing = {
      unknown_model: () => client.messages.create({ ...ask("x"), model: "nobody" }),
      bad_request: () => client.messages.create({ ...ask("x"), messages: [] }),
      bad_key: () => client.withOptions({ apiKey: "wrong" }).messages.create(ask("x")),
      mid_stream: () => client.messages.stream(ask("[[fails]]")).finalMessage(),
    };
    const told = {};
    for (const [name, fail] of Object.entries(failing)) {
      try {
        await fail();
        told[name] = null;
      } catch (error) {
        told[name] = {
          class: error.constructor.name,
          status: error.status ?? null,
          type: error.error?.error?.type ?? null,
          request_id: error.requestID ?? null,
        };
      }
    }
    return told;
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
