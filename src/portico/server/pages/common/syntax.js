// Recorded text in colours: JSON, server-sent events, prompts with their special tokens, token chips, logprobs.
// Every function takes text and gives nodes; the text goes in as text.

import { h, shortened, visible } from "./dom.js";

const JSON_WORDS = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\b(?:true|false|null)\b/g;
const SPECIAL = /<\|[^<>|]{1,40}\|>|<｜[^<>｜]{1,40}｜>|<\/?[A-Za-z_][\w:-]{0,30}>|\[\/?[A-Z][A-Z_]{2,30}\]/g;
const MOST = 200_000; // characters shown at once

/** Text cut by a pattern: what matches becomes what `make` says, the rest stays text. */
function cut(text, pattern, make) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    nodes.push(text.slice(end, match.index), make(match));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes.flat().filter((node) => node !== "");
}

const within = (text) =>
  text.length > MOST ? `${text.slice(0, MOST)}… (${text.length - MOST} more characters)` : text;

/** JSON text, coloured as it stands. */
export function json(text) {
  return cut(within(text), JSON_WORDS, (match) => {
    if (match[2] !== undefined) return [h("span", { class: "j-key" }, match[1]), match[2]];
    if (match[1] !== undefined) return h("span", { class: "j-string" }, match[0]);
    return h("span", { class: "j-atom" }, match[0]);
  });
}

/** A value as indented, coloured JSON. */
export function value(any) {
  return h("pre", { class: "code", tabindex: 0 }, json(JSON.stringify(any, null, 2)));
}

/** Text that may be JSON: indented where it is, else as it stands. */
export function body(text) {
  try {
    return value(JSON.parse(text));
  } catch {
    return h("pre", { class: "code", tabindex: 0 }, within(text));
  }
}

/** Bytes of the wire: line ends are seen, field names tinted, JSON coloured. */
export function wire(text) {
  const lines = within(text).split(/(?<=\n)/);
  return lines.map((line) => {
    const rest = line.replace(/\r?\n$/, "");
    const end = line.slice(rest.length);
    const field = /^(data|event|id|retry): ?|^:.*/.exec(rest);
    const head = field ? [h("span", { class: "sse-field" }, field[0])] : [];
    return [
      head,
      json(rest.slice(field ? field[0].length : 0)),
      end && [h("span", { class: "newline", "aria-hidden": "true" }, visible(end)), "\n"],
    ];
  });
}

/** A prompt: special tokens tinted. */
export function prompt(text) {
  return cut(within(text), SPECIAL, (match) => h("span", { class: "special" }, match[0]));
}

/** Tokens as chips, white space made visible, the id beneath. */
export function chips(ids, pieces, most = 400) {
  const shown = ids.slice(0, most).map((id, i) => {
    const piece = pieces?.[i] ?? "";
    const special = piece.length > 2 && new RegExp(`^(?:${SPECIAL.source})$`).test(piece);
    return h(
      "li",
      { class: special ? "chip special" : "chip" },
      h("span", { class: "piece" }, piece === "" ? "∅" : visible(piece)),
      h("small", {}, String(id)),
    );
  });
  if (ids.length > most) shown.push(h("li", { class: "more" }, `and ${ids.length - most} more`));
  return h("ul", { class: "chips", "aria-label": "tokens", tabindex: ids.length > 20 ? 0 : null }, shown); // it may scroll
}

/** For each token, `[id, logprob, [[id, logprob] …]]`, how likely it was, and what else might have come. */
export function logprobs(entries, textOf) {
  const bar = (id, logprob, chosen) => {
    const share = Math.exp(logprob);
    const filled = h("span", { class: "filled" });
    filled.style.width = `${Math.max(0.5, share * 100)}%`;
    return h(
      "li",
      { class: chosen ? "chosen" : null },
      h("span", { class: "piece" }, shortened(visible(textOf(id) ?? `id ${id}`), 18)),
      h("span", { class: "bar", "aria-hidden": "true" }, filled),
      h("span", { class: "figure" }, `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`),
    );
  };
  return entries.map(([token, logprob, top]) => {
    const others = (top ?? []).filter(([id]) => id !== token).map(([id, value]) => [id, value, false]);
    const all = [[token, logprob, true], ...others].sort((a, b) => b[1] - a[1]);
    return h(
      "ul",
      { class: "logprobs", "aria-label": `probabilities in place of token ${token}` },
      all.map((entry) => bar(...entry)),
    );
  });
}
