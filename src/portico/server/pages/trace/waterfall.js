// What the first token waited for: each stage of its way as a bar on one scale, and the sum in a sentence.

import { duration, h } from "../common/dom.js";
import { firstToken } from "./model.js";

/** The nodes of the waterfall; `select(id)` is called with the artifact of a stage that is chosen. */
export function waterfall(trace, select) {
  const stages = firstToken(trace);
  const known = stages.filter((stage) => stage.to !== null);
  const total = known.at(-1)?.to ?? 0;
  const embedded = trace.first("embedding") !== undefined;
  const reached = embedded || trace.first("step") !== undefined;
  const wanted = embedded ? "vectors" : "first token";
  const share = (by) => known.filter((stage) => stage.by === by).reduce((sum, stage) => sum + stage.to - stage.from, 0);
  const held = share("held") > 0 && [", ", h("b", {}, duration(share("held"))), " held back"];
  const slowest = known.reduce(
    (most, stage) => (!most || stage.to - stage.from > most.to - most.from ? stage : most),
    null,
  );
  const row = (stage) => {
    const bar = h("span", { class: `bar ${stage.by}` });
    if (total > 0) {
      bar.style.left = `${(stage.from / total) * 100}%`;
      bar.style.width = `${stage.to === null ? 100 : ((stage.to - stage.from) / total) * 100}%`;
    }
    return h(
      "tr",
      { class: stage === slowest && known.length > 1 ? "slowest" : null },
      h(
        "th",
        { scope: "row" },
        h("button", { type: "button", onclick: () => select(stage.id), title: stage.note || null }, stage.name),
      ),
      h("td", { class: "track" }, bar),
      h("td", { class: "figure" }, stage.to === null ? "waiting" : duration(stage.to - stage.from)),
      h("td", { class: "note" }, stage.note),
    );
  };
  const { error } = trace;
  const words = !known.length
    ? "Nothing has been recorded yet."
    : !reached && error
      ? h(
          "span",
          {},
          "It came as far as ",
          h("b", {}, known.at(-1).name),
          "; then ",
          h("b", {}, error.layer),
          " said no.",
        )
      : !reached
        ? `Prepared in ${duration(total)}.`
        : h(
            "span",
            {},
            `${embedded ? "Vectors" : "First token"} on the wire after `,
            h("b", {}, duration(total)),
            ": ",
            h("b", {}, duration(share("inference"))),
            " the engine's, ",
            h("b", {}, duration(share("translation"))),
            " Portico's",
            held,
            ".",
          );
  return [
    h("h3", {}, error && !reached ? "How far it came" : `What the ${wanted} waited for`),
    h("p", { class: "verdict" }, words),
    h("table", {}, h("tbody", {}, stages.map(row))),
  ];
}
