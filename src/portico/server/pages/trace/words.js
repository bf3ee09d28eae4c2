// A trace as plain text: the conversation that was sent and the whole answer, put together from the line's events.

import { h } from "../common/dom.js";

const LABELS = { Reasoning: "thought", Content: "answer" };

/** The answer: `[what, text]`, in the order it was said. */
export function answerOf(trace) {
  const parts = [];
  for (const { kind, data } of trace.artifacts) {
    if (kind !== "event") continue;
    const said = data.text ?? data.json_fragment ?? "";
    const what = data.type === "CallStart" ? `call ${data.name}` : LABELS[data.type];
    if (data.type === "CallArguments") parts.at(-1)[1] += said;
    else if (what && what === parts.at(-1)?.[0] && data.type !== "CallStart") parts.at(-1)[1] += said;
    else if (what) parts.push([what, said]);
  }
  return parts;
}

/** The conversation: `[role, text]`. */
export function askedOf(trace) {
  const fields = trace.first("validated")?.data.fields ?? {};
  const head = fields.system ?? fields.instructions;
  const said = fields.messages ?? fields.input ?? fields.prompt ?? [];
  const turns = Array.isArray(said) ? said : [said];
  return [
    ...(head ? [["system", textOf(head)]] : []),
    ...turns.map((one) => [one.role ?? one.type ?? "user", textOf(one)]),
  ];
}

function textOf(said) {
  if (typeof said === "string") return said;
  if (Array.isArray(said)) return said.map(textOf).join("\n");
  const { content, text, output, tool_calls: calls, name, arguments: given } = said ?? {};
  const parts = [content, text, output].filter((one) => one !== undefined && one !== null).map(textOf);
  const called = (calls ?? []).map((call) => `${call.function?.name}(${call.function?.arguments})`);
  return [...parts, ...called, ...(given === undefined ? [] : [`${name}(${given})`])].join("\n");
}

export function inWords(trace) {
  const all = [...askedOf(trace), ...answerOf(trace)];
  if (!all.length) return [h("p", { class: "hint" }, "Nothing was said that is recorded.")];
  return all.flatMap(([who, text]) => [h("h4", {}, who), h("pre", { class: "code", tabindex: 0 }, text)]);
}
