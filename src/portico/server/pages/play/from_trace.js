// A recorded request as a conversation and a form: what "open in playground" does. The inverse of apis/, as far as the form
// has fields; what else a body says goes where the form adds fields of one's own.

import { APIS } from "../apis/all.js";
import { emptyAnswer } from "../apis/answer.js";
import { fileOf } from "../apis/files.js";
import { Conversation } from "./conversation.js";

const PLAIN = {
  temperature: "temperature",
  top_p: "top_p",
  top_k: "top_k",
  min_p: "min_p",
  presence_penalty: "presence_penalty",
  frequency_penalty: "frequency_penalty",
  repetition_penalty: "repetition_penalty",
  min_tokens: "min_tokens",
  max_tokens: "max_tokens",
  max_completion_tokens: "max_tokens",
  max_output_tokens: "max_tokens",
  thinking_token_budget: "thinking_budget",
  seed: "seed",
  n: "n",
  top_logprobs: "logprobs",
  dimensions: "dimensions",
};
const READ = [
  "model",
  "messages",
  "input",
  "prompt",
  "system",
  "instructions",
  "stream",
  "stream_options",
  "store",
].concat(
  [
    "tools",
    "tool_choice",
    "stop",
    "stop_sequences",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "include",
    "logprobs",
  ],
  ["response_format", "text", "output_config"],
);

const textOf = (content) =>
  typeof content === "string"
    ? content
    : (content ?? []).map((part) => part.text ?? (typeof part.content === "string" ? part.content : "")).join("");

/** The pictures and texts that a user's content brings, in any API's spelling. */
function filesOf(content) {
  const found = (Array.isArray(content) ? content : []).map((part, place) => {
    const { source = {} } = part;
    const picture = part.image_url?.url ?? part.image_url ?? (part.type === "image" ? source.url : undefined);
    const { filename: name, file_data: data } = part.file ?? part;
    if (typeof picture === "string")
      return { name: `picture ${place + 1}`, type: typeOf(picture, "image/"), url: picture };
    if (part.type === "image" && source.type === "base64")
      return {
        name: `picture ${place + 1}`,
        type: source.media_type,
        url: `data:${source.media_type};base64,${source.data}`,
      };
    if (typeof data === "string") return { name: name ?? "file", type: typeOf(data, "text/plain"), url: data };
    return part.type === "document" && source.type === "text" ? fileOf(part.title ?? "document", source.data) : null;
  });
  return found.filter(Boolean);
}

const typeOf = (url, otherwise) => /^data:([^;,]+)/.exec(url)?.[1] ?? otherwise;

/** `{form, conversation}` of a recorded request; raises Error where it is none that the playground can make. */
export function opened(path, text) {
  const api = Object.keys(APIS).find((name) => APIS[name].path === path || `/v1${path}` === APIS[name].path);
  if (!api || typeof text !== "string") throw new Error("The playground has no form for this request.");
  const body = JSON.parse(text);
  const form = { api, model: body.model ?? "", stream: body.stream === true, system: "", stops: "", tools: "" };
  const more = {};
  for (const [name, value] of Object.entries(body)) {
    if (PLAIN[name] && typeof value === "number") form[PLAIN[name]] = String(value);
    else if (!READ.includes(name)) more[name] = value;
  }
  form.stops = [body.stop ?? body.stop_sequences ?? []].flat().join("\n");
  form.system = textOf(body.system ?? body.instructions ?? "");
  if (body.tools?.length) form.tools = JSON.stringify(body.tools, null, 1);
  form.tool_choice = choice(body.tool_choice);
  const effort = body.reasoning_effort ?? body.reasoning?.effort;
  const thinks = { enabled: "low", disabled: "none" }[body.thinking?.type];
  form.thinking = ["none", "low", "medium", "high"].find((one) => one === (effort ?? thinks)) ?? "";
  if (body.thinking?.budget_tokens) form.thinking_budget = String(body.thinking.budget_tokens);
  const format = body.response_format?.json_schema ?? body.text?.format ?? body.output_config?.format;
  if (format?.schema) form.schema = JSON.stringify(format.schema, null, 1);
  if (Object.keys(more).length) form.more = JSON.stringify(more, null, 1);
  const conversation = new Conversation();
  let last = 0;
  for (const turn of turnsOf(body)) {
    if (turn.role === "system") form.system = [form.system, turn.text].filter(Boolean).join("\n\n");
    else last = conversation.add(last, turn).id;
  }
  return { form, conversation };
}

function choice(given) {
  const name = given?.function?.name ?? given?.name;
  return name ? `tool:${name}` : ({ any: "required" }[given?.type] ?? given?.type ?? given ?? "auto");
}

function turnsOf({ messages, input, prompt }) {
  if (messages) return messages.flatMap(ofMessage);
  const said = input ?? prompt;
  if (typeof said === "string") return [{ role: "user", text: said }];
  if (said?.every((one) => typeof one === "string")) return [{ role: "user", text: said.join("\n") }];
  return joined((said ?? []).flatMap(ofItem));
}

function ofMessage({ role, content, reasoning, tool_calls: calls, tool_call_id: call }) {
  if (role === "tool") return [{ role: "tool", call, name: "", text: textOf(content) }];
  if (role === "system" || role === "developer") return [{ role: "system", text: textOf(content) }];
  const blocks = Array.isArray(content) ? content : [];
  if (role === "assistant")
    return [
      {
        ...emptyAnswer(),
        role,
        reasoning: reasoning ?? blocks.map((block) => block.thinking ?? "").join(""),
        signature: blocks.map((block) => block.signature ?? "").join(""),
        content: textOf(content),
        calls: [
          ...(calls ?? []).map((one) => ({ id: one.id, ...one.function })),
          ...blocks
            .filter((block) => block.type === "tool_use")
            .map((block) => ({ id: block.id, name: block.name, arguments: JSON.stringify(block.input) })),
        ],
      },
    ];
  const results = blocks.filter((block) => block.type === "tool_result");
  const text = textOf(blocks.length ? blocks.filter((block) => block.type !== "tool_result") : content);
  const files = filesOf(content);
  return [
    ...results.map((one) => ({ role: "tool", call: one.tool_use_id, name: "", text: textOf(one.content) })),
    ...(text || files.length ? [{ role: "user", text, files: files.length ? files : undefined }] : []),
  ];
}

function ofItem(item) {
  if (item.type === "function_call_output")
    return [{ role: "tool", call: item.call_id, name: "", text: textOf(item.output) }];
  if (item.type === "function_call") {
    const call = { id: item.call_id, name: item.name, arguments: item.arguments };
    return [{ ...emptyAnswer(), role: "assistant", calls: [call] }];
  }
  return item.role ? ofMessage(item) : [];
}

/** Items of one answer as one turn. */
function joined(turns) {
  const found = [];
  for (const turn of turns) {
    const last = found.at(-1);
    if (turn.role === "assistant" && last?.role === "assistant") {
      last.content += turn.content;
      last.calls.push(...turn.calls);
    } else found.push(turn);
  }
  return found;
}
