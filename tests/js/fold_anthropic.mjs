// What the official client's accumulator makes of raw streams: JSON lines {"stream": text} in, messages out.
import readline from "node:readline";
import Anthropic from "@anthropic-ai/sdk";

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { stream } = JSON.parse(line);
  const fetch = async () => new Response(stream, { headers: { "content-type": "text/event-stream" } });
  const client = new Anthropic({ apiKey: "none", fetch, maxRetries: 0 });
  const request = { model: "m", max_tokens: 1, messages: [{ role: "user", content: "x" }] };
  console.log(JSON.stringify(await client.messages.stream(request).finalMessage()));
}
