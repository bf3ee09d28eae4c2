// How near texts are to each other, as a table in colours: the cosine of their embeddings.

import { h, shortened } from "../common/dom.js";

const MOST = 40; // texts

export function cosine(a, b) {
  let [dot, left, right] = [0, 0, 0];
  a.forEach((x, i) => ((dot += x * b[i]), (left += x * x), (right += b[i] * b[i])));
  return left && right ? dot / Math.sqrt(left * right) : 0;
}

export function similarity(texts, vectors) {
  const shown = vectors.slice(0, MOST);
  const cell = (a, b) => {
    const near = cosine(a, b);
    const element = h("td", {}, near.toFixed(2));
    element.style.setProperty("--near", String(Math.round(Math.max(0, near) * 70)));
    return element;
  };
  const head = h(
    "tr",
    {},
    h("td", {}),
    shown.map((_, i) => h("th", { scope: "col" }, String(i + 1))),
  );
  const row = (vector, i) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, `${i + 1} ${shortened(texts[i] ?? "", 40)}`),
      shown.map((other) => cell(vector, other)),
    );
  const left = vectors.length - shown.length;
  return h(
    "div",
    { class: "wide", tabindex: 0, role: "group", "aria-label": "How near the texts are" },
    h(
      "table",
      { class: "near" },
      h("caption", {}, "Cosine of the texts' embeddings"),
      h("tbody", {}, head, shown.map(row)),
    ),
    h("p", { class: "hint" }, `${vectors[0]?.length ?? 0} dimensions${left > 0 ? `, ${left} more texts` : ""}`),
    h("details", {}, h("summary", {}, "Vectors"), h("pre", { class: "code", tabindex: 0 }, vectorText(shown))),
  );
}

const vectorText = (vectors) =>
  vectors.map((one) => `[${one.slice(0, 64).join(", ")}${one.length > 64 ? ", …" : ""}]`).join("\n");
