// Two requests side by side: what is known of each, what every stage took, and where what they say begins to differ.

import { get } from "../common/api.js";
import { count, duration, h } from "../common/dom.js";
import { firstToken, Trace } from "../trace/model.js";
import { STATES } from "../trace/view.js";
import { answerOf, askedOf } from "../trace/words.js";

const BEFORE = 80; // characters shown of what is the same
const AFTER = 1200; // and of what is not

const FACTS = {
  path: (head) => head.path,
  model: (head) => head.model,
  state: (head) => STATES[head.state] ?? head.state,
  status: (head) => head.status,
  answer: (head) => (head.stream ? "streamed" : "one body"),
  "prompt tokens": (head) => head.prompt_tokens,
  "of them cached": (head) => head.cached_tokens,
  "completion tokens": (head) => head.completion_tokens,
  finish: (head) => head.finish,
  error: (head) => head.error?.message,
};
const TIMES = { "first token": (head) => head.first_token, duration: (head) => head.seconds };
const TEXTS = {
  "The fields of the request": (trace) => JSON.stringify(trace.first("validated")?.data.fields ?? {}, null, 1),
  "What was asked": (trace) => told(askedOf(trace)),
  "The prompt": (trace) => all(trace, "prompt", (data) => data.text),
  "The prompt's tokens": (trace) => all(trace, "prompt_tokens", (data) => data.ids?.join(" ")),
  "The grammar": (trace) => all(trace, "constraint", (data) => data.lark),
  "The answer": (trace) => told(answerOf(trace)),
};

const told = (parts) => parts.map(([who, text]) => `${who}: ${text}`).join("\n");
const all = (trace, kind, of) =>
  trace.artifacts
    .filter((one) => one.kind === kind)
    .map((one) => of(one.data) ?? "")
    .join("\n");

/** The nodes that compare two requests, by their traces' ids. Raises what the server says where one is gone. */
export async function compared(ids, onchoose) {
  const traces = await Promise.all(ids.map(load));
  const heads = traces.map((trace) => trace.head);
  const title = (head, i) =>
    h("th", { scope: "col" }, h("button", { type: "button", onclick: () => onchoose(ids[i]) }, head.id));
  const facts = Object.entries(FACTS).map(([name, of]) => row(name, heads.map(of)));
  const times = Object.entries(TIMES).map(([name, of]) => timed(name, heads.map(of)));
  return [
    h("h2", {}, "Two requests"),
    h(
      "div",
      { class: "wide", tabindex: 0, role: "group", "aria-label": "Figures of both" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, h("td", {}), heads.map(title), h("th", { scope: "col" }, "difference"))),
        h("tbody", {}, facts, times, stages(traces)),
      ),
    ),
    ...Object.entries(TEXTS).flatMap(([name, of]) => texts(name, traces.map(of))),
  ];
}

async function load(id) {
  const { trace: head, artifacts } = await get(`/inspect/traces/${encodeURIComponent(id)}`);
  const trace = new Trace(head);
  for (const one of artifacts) trace.put(one);
  return trace;
}

function row(name, found, difference = null) {
  const [first, second] = found.map((one) => String(one ?? "–"));
  const differs = first !== second;
  return h(
    "tr",
    { class: differs ? "differs" : null },
    h("th", { scope: "row" }, name),
    h("td", {}, first),
    h("td", {}, second),
    h("td", {}, differs ? (difference ?? "≠") : "same"),
  );
}

/** A row of times in seconds: they always differ, so it is told by how much. */
function timed(name, [first, second]) {
  const known = Number.isFinite(first) && Number.isFinite(second);
  const more = known && `${second < first ? "−" : "+"}${duration(Math.abs(second - first))}`;
  return row(name, [duration(first), duration(second)], more || "≠");
}

/** What each stage before the first token took. */
function stages(traces) {
  const took = traces.map(
    (trace) => new Map(firstToken(trace).map(({ name, from, to }) => [name, to === null ? null : to - from])),
  );
  const names = new Set(took.flatMap((one) => [...one.keys()]));
  return [...names].map((name) =>
    timed(
      `stage: ${name}`,
      took.map((one) => one.get(name)),
    ),
  );
}

/** Two texts: that they are the same, or both from where they part. */
function texts(name, [first, second]) {
  if (!first && !second) return [];
  const heading = h("h3", {}, name);
  if (first === second)
    return [heading, h("p", { class: "hint" }, `The same: ${count([...first].length, "character")}.`)];
  let same = 0;
  while (same < first.length && first[same] === second[same]) same += 1;
  const part = (text, whose) =>
    h(
      "pre",
      { class: "code", tabindex: 0, "aria-label": `${name}, ${whose}` },
      same > BEFORE ? "…" : "",
      text.slice(Math.max(0, same - BEFORE), same),
      h("mark", {}, text.slice(same, same + AFTER) || "∅"),
      text.length > same + AFTER ? `… (${text.length - same - AFTER} more characters)` : "",
    );
  return [
    heading,
    h("p", { class: "hint" }, `The first ${count(same, "character")} are the same.`),
    h("div", { class: "pair" }, part(first, "of the first"), part(second, "of the second")),
  ];
}
