// One artifact in full, and its family as lists: where it comes from, what became of it.
// The lists say in words what the lanes show in lines, down to the token ids; every entry leads to its artifact.

import { count, duration, h, shortened } from "../common/dom.js";
import { body, chips, logprobs, prompt, value, wire } from "../common/syntax.js";
import { bytesOf, LANES, nameOf, sentence, timing } from "./model.js";

const MOST = 200; // entries of one list

/** The mark of who made it, by shape and word and colour. */
export function mark(by) {
  return h("span", { class: `mark ${by}` }, by);
}

export function details(trace, artifact) {
  const lane = LANES.find((one) => one.name === artifact.lane);
  return [
    h(
      "header",
      {},
      h("h3", {}, nameOf(artifact)),
      mark(artifact.by),
      h(
        "p",
        { class: "where" },
        `#${artifact.id}, ${artifact.lane} lane, made by `,
        h("code", {}, artifact.source ?? lane?.box ?? ""),
        `, ${timing(artifact)}`,
        artifact.choice ? `, choice ${artifact.choice}` : "",
      ),
    ),
    contents(trace, artifact),
  ];
}

function contents(trace, artifact) {
  const { data, kind } = artifact;
  if (trace.head?.redacted)
    return [
      h(
        "p",
        { class: "redacted" },
        "What was said is not recorded: this server redacts. What is left are shapes and times.",
      ),
      value(data),
    ];
  const parts = {
    http_request: () => [headers(data.headers), typeof data.body === "string" ? body(data.body) : null],
    validated: () => value(data.fields ?? data),
    prompt: () => h("pre", { class: "code prompt", tabindex: 0 }, prompt(data.text ?? "")),
    medium: () => [data.thumbnail ? h("img", { src: data.thumbnail, alt: artifact.label }) : null, value(data)],
    prompt_tokens: () => chips(data.ids ?? [], data.pieces, 600),
    constraint: () => [
      h("p", {}, "The engine may only sample what this grammar allows."),
      h("pre", { class: "code", tabindex: 0 }, data.lark ?? ""),
    ],
    step: () => step(trace, data),
    embedding: () => vector(data.vector ?? []),
    text: () => h("pre", { class: "code", tabindex: 0 }, data.text ?? ""),
    held: () => held(trace, artifact),
    event: () => event(data),
    frame: () => bytes(data),
    chunk: () => bytes(data),
    response: () => [h("p", {}, `Status ${data.status}`), headers(data.headers)],
    error: () => refusal(data),
  };
  return parts[kind] ? parts[kind]() : value(data);
}

function step(trace, data) {
  const facts = [
    data.error && `The engine failed: ${data.error}`,
    data.finish_reason && `The engine finished: ${data.finish_reason}.`,
    data.stop_token !== null && data.stop_token !== undefined && `Stopped by token ${data.stop_token}.`,
    typeof data.cached_tokens === "number" &&
      `${count(data.cached_tokens, "prompt token")} came from the prefix cache.`,
  ].filter(Boolean);
  return [
    chips(data.ids ?? [], data.pieces),
    facts.length ? h("p", {}, facts.join(" ")) : null,
    data.logprobs?.length
      ? [h("h4", {}, "How likely it was"), logprobs(data.logprobs, (id) => trace.pieces.get(id))]
      : null,
  ];
}

function vector(numbers) {
  const length = Math.hypot(...numbers);
  return [
    h("p", {}, `${count(numbers.length, "number")}, of length ${Number(length.toPrecision(4))}.`),
    h("pre", { class: "code vector", tabindex: 0 }, `[${numbers.map((one) => Number(one.toPrecision(6))).join(", ")}]`),
  ];
}

function held(_trace, artifact) {
  const { data } = artifact;
  const layer = data.layer ?? LANES.find((lane) => lane.name === artifact.lane)?.box;
  const lasted = artifact.took === null ? "and still is" : `for ${duration(artifact.took)}`;
  return [
    h("p", { class: "reason" }, `Held back by ${layer} ${lasted}: ${data.reason ?? "not known why"}.`),
    h("pre", { class: "code", tabindex: 0 }, data.text ?? data.bytes ?? ""),
  ];
}

function event(data) {
  const { type, ...fields } = data;
  const text = fields.text ?? fields.json_fragment;
  if (typeof text !== "string") return Object.keys(fields).length ? value(fields) : null;
  const { text: _text, json_fragment: _fragment, ...rest } = fields;
  return [h("pre", { class: "code", tabindex: 0 }, text), Object.keys(rest).length ? value(rest) : null];
}

function bytes(data) {
  const text = data.bytes ?? data.base64 ?? "";
  const spelled = data.bytes === undefined ? ", not text, so in base64" : "";
  return [
    h(
      "p",
      { class: "where" },
      `${count(bytesOf(data) ?? 0, "byte")}${spelled}${data.last ? ", the last of the body" : ""}`,
    ),
    h("pre", { class: "code", tabindex: 0 }, wire(text)),
  ];
}

function headers(pairs) {
  if (!pairs?.length) return null;
  return h(
    "dl",
    { class: "headers" },
    pairs.map(([name, content]) => [h("dt", {}, name), h("dd", {}, content)]),
  );
}

export function refusal(data) {
  return [
    h("p", { class: "reason" }, data.message ?? ""),
    h(
      "dl",
      { class: "headers" },
      ["layer", "status", "code", "param"]
        .filter((name) => data[name] !== null && data[name] !== undefined)
        .map((name) => [h("dt", {}, name), h("dd", {}, String(data[name]))]),
    ),
  ];
}

// -- family ---------------------------------------------------------------------------------------------------------------

/** Both directions of an artifact's family. `go(id)` is called when an entry is chosen. */
export function family(trace, artifact, go) {
  return [
    h(
      "section",
      { "aria-label": "Where this comes from" },
      h("h3", {}, "Where does this come from?"),
      origin(trace, artifact),
      tree(trace, artifact.id, (id) => trace.parents(id), go),
    ),
    h(
      "section",
      { "aria-label": "What became of this" },
      h("h3", {}, "What became of it?"),
      outcome(trace, artifact),
      tree(trace, artifact.id, (id) => trace.children(id), go),
    ),
  ];
}

/** The short answer: which tokens. */
function origin(trace, artifact) {
  if (["request", "prompt"].includes(artifact.lane)) {
    return h(
      "p",
      {},
      artifact.of.length
        ? "From the request; the model has had no part in it."
        : "From the client; everything else begins here.",
    );
  }
  if (artifact.kind === "step")
    return h("p", {}, "From the model. Everything before it was translation; this is inference.");
  const steps = trace.steps(artifact.id);
  if (!steps.length) return h("p", {}, "No token has a part in it: it is Portico's own, made from the request alone.");
  const tokens = steps.flatMap((one) => (one.data.ids ?? []).map((id, i) => [id, one.data.pieces?.[i]]));
  return [
    h("p", {}, `From ${count(tokens.length, "token")} of ${count(steps.length, "engine step")}:`),
    chips(
      tokens.map(([id]) => id),
      tokens.map(([, piece]) => piece),
      40,
    ),
  ];
}

function outcome(trace, artifact) {
  const wires = [...trace.descendants(artifact.id)].map((id) => trace.get(id)).filter((one) => one.kind === "chunk");
  if (artifact.kind === "chunk") return h("p", {}, "It went to the client, byte for byte.");
  if (!wires.length) return h("p", {}, "None of it has reached the wire.");
  const first = wires.reduce((a, b) => (a.at < b.at ? a : b));
  return h(
    "p",
    {},
    `It is in ${count(wires.length, "chunk")} on the wire, the first ${duration(Math.max(0, first.at - artifact.at))} later.`,
  );
}

/** Relatives as a nested list; one that was listed already is not unfolded again. */
function tree(trace, id, next, go) {
  const seen = new Set([id]);
  let left = MOST;
  const list = (ids) => {
    const entries = [];
    for (const one of ids) {
      if (left-- <= 0) {
        entries.push(h("li", { class: "more" }, "and more"));
        break;
      }
      const artifact = trace.get(one);
      const known = seen.has(one);
      seen.add(one);
      const words = shortened(sentence(artifact), 64);
      entries.push(
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", class: `entry ${artifact.by}`, data: { goto: one }, onclick: () => go(one) },
            h("span", { class: "dot", "aria-hidden": "true" }),
            words,
            h("small", {}, ` ${artifact.lane} #${one}`),
          ),
          known ? null : list(next(one)),
        ),
      );
    }
    return entries.length ? h("ul", { class: "tree" }, entries) : null;
  };
  return list(next(id));
}
