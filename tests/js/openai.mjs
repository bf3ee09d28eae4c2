// The official client against a server: node openai.mjs URL SCENARIO. Prints what came out as one JSON value.
import OpenAI from "openai";

const [url, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.PORTICO_TEST_KEY ?? "none", maxRetries: 0 });
const model = process.env.PORTICO_TEST_MODEL ?? "tiny";
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const ask = (text) => ({ model, messages: [{ role: "user", content: text }] });

const scenarios = {
  async create() {
    return await client.chat.completions.create(ask("[[plain]]"));
  },

  async stream() {
    const options = { stream_options: { include_usage: true } };
    const runner = client.chat.completions.stream({ ...ask("[[plain]]"), ...options });
    let text = "";
    runner.on("content", (piece) => (text += piece));
    const completion = await runner.finalChatCompletion();
    return { text, completion };
  },

  async tool_round_trip() {
    const request = { ...ask("[[calls]]"), tools };
    const first = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0];
    const results = first.message.tool_calls.map((call) => ({
      role: "tool",
      tool_call_id: call.id,
      content: `sunny in ${JSON.parse(call.function.arguments).city} [[answer]]`,
    }));
    const messages = [...request.messages, first.message, ...results];
    const second = await client.chat.completions.create({ ...request, messages });
    return { first, second: second.choices[0] };
  },

  async errors() {
    try {
      await client.chat.completions.create({ ...ask("x"), model: "nobody" });
      return null;
    } catch (error) {
      return { class: error.constructor.name, status: error.status, code: error.code, param: error.param };
    }
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
