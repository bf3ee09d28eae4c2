// OpenAI's chat completions.

import { at } from "./answer.js";
import { choiceOf, number, numbers, parsed, stopsOf, toolsOf } from "./fields.js";
import { isPicture, withFiles } from "./files.js";

/** What chat and completions have in common. */
export const sampling = (form) => ({
  ...numbers(form, {
    temperature: "temperature",
    top_p: "top_p",
    top_k: "top_k",
    min_p: "min_p",
    presence_penalty: "presence_penalty",
    frequency_penalty: "frequency_penalty",
    repetition_penalty: "repetition_penalty",
    min_tokens: "min_tokens",
    seed: "seed",
    n: "n",
  }),
  stop: stopsOf(form),
  stream: form.stream,
  stream_options: form.stream ? { include_usage: true } : undefined,
});

export const responseFormat = (form) => {
  const schema = parsed(form, "schema", "The schema");
  return schema ? { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } : undefined;
};

export const usageOf = (usage) => usage && { prompt: usage.prompt_tokens, completion: usage.completion_tokens };

const part = (file) =>
  isPicture(file)
    ? { type: "image_url", image_url: { url: file.url } }
    : { type: "file", file: { filename: file.name, file_data: file.url } };

const message = {
  user: (turn) => ({ role: "user", content: withFiles(turn, (text) => ({ type: "text", text }), part) }),
  tool: ({ call, text }) => ({ role: "tool", tool_call_id: call, content: text }),
  assistant: ({ content, reasoning, calls }) => ({
    role: "assistant",
    content: content || (calls.length ? null : ""),
    reasoning: reasoning || undefined,
    tool_calls: calls.length
      ? calls.map((call) => ({
          id: call.id,
          type: "function",
          function: { name: call.name, arguments: call.arguments },
        }))
      : undefined,
  }),
};

export const chat = {
  title: "OpenAI chat",
  path: "/v1/chat/completions",
  lacks: ["dimensions"],

  body(form, turns) {
    const tools = toolsOf(form).map((tool) => ({ type: "function", function: tool }));
    const choice = choiceOf(form, tools);
    const messages = turns.map((turn) => message[turn.role](turn));
    if (form.system.trim()) messages.unshift({ role: "system", content: form.system });
    const top = number(form, "logprobs");
    return {
      messages,
      ...sampling(form),
      ...numbers(form, { max_completion_tokens: "max_tokens", thinking_token_budget: "thinking_budget" }),
      reasoning_effort: form.thinking || undefined,
      logprobs: top === undefined ? undefined : true,
      top_logprobs: top,
      tools: tools.length ? tools : undefined,
      tool_choice: choice ? (choice.word ?? { type: "function", function: { name: choice.name } }) : undefined,
      response_format: responseFormat(form),
    };
  },

  feed(answers, { choices, usage }) {
    for (const { index, delta, finish_reason: finish, logprobs } of choices ?? []) {
      const answer = at(answers, index);
      const { reasoning, content, tool_calls: calls } = delta ?? {};
      answer.reasoning += reasoning ?? "";
      answer.content += content ?? "";
      (calls ?? []).forEach((part, i) => {
        const call = (answer.calls[part.index ?? i] ??= { id: "", name: "", arguments: "" });
        call.id ||= part.id ?? "";
        call.name += part.function?.name ?? "";
        call.arguments += part.function?.arguments ?? "";
      });
      answer.finish = finish ?? answer.finish;
      for (const { token, logprob, top_logprobs: top } of logprobs?.content ?? [])
        answer.tokens.push({ text: token, logprob, top: (top ?? []).map((one) => ({ ...one, text: one.token })) });
    }
    if (usage) at(answers, 0).usage = usageOf(usage);
  },

  whole(answers, body) {
    this.feed(answers, { ...body, choices: body.choices.map((choice) => ({ ...choice, delta: choice.message })) });
  },
};
