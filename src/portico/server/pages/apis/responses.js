// OpenAI's Responses. The whole conversation is sent each time and nothing is kept by the server, so that it can be edited.

import { at } from "./answer.js";
import { choiceOf, number, numbers, parsed, toolsOf } from "./fields.js";
import { isPicture, withFiles } from "./files.js";

const part = (file) =>
  isPicture(file)
    ? { type: "input_image", image_url: file.url }
    : { type: "input_file", filename: file.name, file_data: file.url };

const items = {
  user: (turn) => [{ role: "user", content: withFiles(turn, (text) => ({ type: "input_text", text }), part) }],
  tool: ({ call, text }) => [{ type: "function_call_output", call_id: call, output: text }],
  assistant: ({ content, calls }) => [
    ...(content ? [{ role: "assistant", content }] : []),
    ...calls.map((call) => ({
      type: "function_call",
      call_id: call.id,
      name: call.name,
      arguments: call.arguments || "{}",
    })),
  ],
};

export const responses = {
  title: "OpenAI Responses",
  path: "/v1/responses",
  lacks: [
    ...["top_k", "min_p", "repetition_penalty", "min_tokens", "seed", "n", "stops"],
    ...["thinking_budget", "dimensions"],
  ],

  body(form, turns) {
    const tools = toolsOf(form).map((tool) => ({ type: "function", ...tool }));
    const choice = choiceOf(form, tools);
    const schema = parsed(form, "schema", "The schema");
    const top = number(form, "logprobs");
    return {
      instructions: form.system.trim() ? form.system : undefined,
      input: turns.flatMap((turn) => items[turn.role](turn)),
      ...numbers(form, {
        max_output_tokens: "max_tokens",
        temperature: "temperature",
        top_p: "top_p",
        presence_penalty: "presence_penalty",
        frequency_penalty: "frequency_penalty",
      }),
      top_logprobs: top,
      include: top === undefined ? undefined : ["message.output_text.logprobs"],
      reasoning: form.thinking ? { effort: form.thinking } : undefined,
      tools: tools.length ? tools : undefined,
      tool_choice: choice ? (choice.word ?? { type: "function", name: choice.name }) : undefined,
      text: schema ? { format: { type: "json_schema", name: "answer", schema, strict: true } } : undefined,
      store: false,
      stream: form.stream,
    };
  },

  feed(answers, event) {
    const answer = at(answers, 0);
    const call = () => answer.calls.find((one) => one.index === event.output_index);
    if (event.type === "response.reasoning_text.delta") answer.reasoning += event.delta;
    else if (event.type === "response.output_text.delta") {
      answer.content += event.delta;
      answer.tokens.push(...(event.logprobs ?? []).map(tokenOf));
    } else if (event.type === "response.output_item.added" && event.item.type === "function_call")
      answer.calls.push({ index: event.output_index, id: event.item.call_id, name: event.item.name, arguments: "" });
    else if (event.type === "response.function_call_arguments.delta") call().arguments += event.delta;
    else if (event.response && /\.(completed|incomplete|failed)$/.test(event.type)) ended(answer, event.response);
  },

  whole(answers, body) {
    const answer = at(answers, 0);
    for (const item of body.output ?? []) {
      const parts = item.content ?? [];
      if (item.type === "reasoning") answer.reasoning += parts.map((part) => part.text ?? "").join("");
      else if (item.type === "message") {
        answer.content += parts.map((part) => part.text ?? "").join("");
        answer.tokens.push(...parts.flatMap((part) => part.logprobs ?? []).map(tokenOf));
      } else if (item.type === "function_call")
        answer.calls.push({ id: item.call_id, name: item.name, arguments: item.arguments });
    }
    ended(answer, body);
  },
};

const tokenOf = ({ token, logprob, top_logprobs: top }) => ({
  text: token,
  logprob,
  top: (top ?? []).map((one) => ({ text: one.token, logprob: one.logprob })),
});

function ended(answer, { status, incomplete_details: why, usage, error }) {
  answer.finish = why?.reason ?? status;
  answer.usage = usage && { prompt: usage.input_tokens, completion: usage.output_tokens };
  answer.error = error ?? null;
}
