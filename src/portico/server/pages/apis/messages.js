// Anthropic's Messages.

import { at } from "./answer.js";
import { choiceOf, number, numbers, parsed, stopsOf, toolsOf } from "./fields.js";
import { base64Of, isPicture, textOf, withFiles } from "./files.js";

const BUDGETS = { low: 1024, medium: 4096, high: 16384 }; // thinking tokens, which this API counts
const ROOM = 4096; // tokens for the answer, unless told: this API wants a bound, and counts the thought in

/** Turns as messages; results of tools are said by the user, together with what the user says next. */
function messagesOf(turns) {
  const messages = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const blocks = block[turn.role](turn);
    if (messages.at(-1)?.role === role) messages.at(-1).content.push(...blocks);
    else messages.push({ role, content: blocks });
  }
  return messages.map(({ role, content }) => {
    const [only, more] = content;
    return { role, content: only?.type === "text" && !more ? only.text : content };
  });
}

const words = (text) => ({ type: "text", text });
const part = (file) =>
  isPicture(file)
    ? { type: "image", source: { type: "base64", media_type: file.type, data: base64Of(file) } }
    : { type: "document", title: file.name, source: { type: "text", media_type: "text/plain", data: textOf(file) } };

const block = {
  user: (turn) => [withFiles(turn, words, part)].flat().map((one) => (typeof one === "string" ? words(one) : one)),
  tool: ({ call, text }) => [{ type: "tool_result", tool_use_id: call, content: text }],
  assistant: ({ reasoning, signature, content, calls }) => [
    ...(reasoning && signature ? [{ type: "thinking", thinking: reasoning, signature }] : []),
    ...(content ? [{ type: "text", text: content }] : []),
    ...calls.map((call) => ({ type: "tool_use", id: call.id, name: call.name, input: argumentsOf(call) })),
  ],
};

function argumentsOf(call) {
  try {
    return JSON.parse(call.arguments || "{}");
  } catch {
    return {}; // it was cut short
  }
}

export const messages = {
  title: "Anthropic Messages",
  path: "/v1/messages",
  headers: { "anthropic-version": "2023-06-01" },
  lacks: [
    ...["min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "seed", "n", "logprobs"],
    "dimensions",
  ],

  body(form, turns) {
    const tools = toolsOf(form).map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters }));
    const choice = choiceOf(form, tools);
    const schema = parsed(form, "schema", "The schema");
    const thinks = form.thinking && form.thinking !== "none";
    const budget = thinks ? (number(form, "thinking_budget") ?? BUDGETS[form.thinking]) : 0;
    const off = form.thinking === "none" ? { type: "disabled" } : undefined;
    return {
      system: form.system.trim() ? form.system : undefined,
      messages: messagesOf(turns),
      max_tokens: number(form, "max_tokens") ?? budget + ROOM,
      ...numbers(form, { temperature: "temperature", top_p: "top_p", top_k: "top_k" }),
      stop_sequences: stopsOf(form),
      tools: tools.length ? tools : undefined,
      tool_choice: choice
        ? choice.name
          ? { type: "tool", name: choice.name }
          : { type: { required: "any" }[choice.word] ?? choice.word }
        : undefined,
      output_config: schema ? { format: { type: "json_schema", schema } } : undefined,
      thinking: thinks ? { type: "enabled", budget_tokens: budget } : off,
      stream: form.stream,
    };
  },

  feed(answers, event) {
    const answer = at(answers, 0);
    if (event.type === "message_start") ended(answer, null, event.message.usage);
    else if (event.type === "content_block_start") begun(answer, event.index, event.content_block, "");
    else if (event.type === "content_block_delta") grown(answer, event.index, event.delta);
    else if (event.type === "message_delta") ended(answer, event.delta.stop_reason, event.usage);
  },

  whole(answers, body) {
    const answer = at(answers, 0);
    body.content.forEach((one, index) => begun(answer, index, one, JSON.stringify(one.input)));
    ended(answer, body.stop_reason, body.usage);
  },
};

function begun(answer, index, block, input) {
  if (block.type === "thinking") {
    answer.reasoning += block.thinking ?? "";
    answer.signature ||= block.signature ?? "";
  } else if (block.type === "text") answer.content += block.text ?? "";
  else if (block.type === "tool_use")
    answer.calls.push({ index, id: block.id, name: block.name, arguments: input ?? "" });
}

function grown(answer, index, delta) {
  answer.reasoning += delta.thinking ?? "";
  answer.signature += delta.signature ?? "";
  answer.content += delta.text ?? "";
  if (delta.partial_json) answer.calls.find((call) => call.index === index).arguments += delta.partial_json;
}

function ended(answer, reason, usage) {
  answer.finish = reason ?? answer.finish;
  if (usage)
    answer.usage = {
      prompt: usage.input_tokens ?? answer.usage?.prompt,
      completion: usage.output_tokens ?? answer.usage?.completion,
    };
}
