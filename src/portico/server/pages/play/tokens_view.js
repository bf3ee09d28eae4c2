// An answer token by token: how likely each was as a tint, what else might have come on pointing at it.

import { count, h, visible } from "../common/dom.js";

const MOST = 2000; // tokens that are shown

const percent = (logprob) => `${(Math.exp(logprob) * 100).toFixed(1)} %`;

export function tokensView(tokens) {
  const out = h("p", { class: "readout", role: "status" }, "Point at a token, or walk through them with Tab.");
  const chip = ({ text, logprob, top }) => {
    const others = top
      .filter((one) => one.text !== text)
      .map((one) => `“${visible(one.text)}” ${percent(one.logprob)}`);
    const words = [`“${visible(text)}” ${percent(logprob)}`, ...others].join(", ");
    const tell = () => (out.textContent = words);
    const element = h("button", { type: "button", title: words, onpointerenter: tell, onfocus: tell }, visible(text));
    element.style.setProperty("--doubt", String(Math.round((1 - Math.exp(logprob)) * 60)));
    return element;
  };
  const more = tokens.length > MOST ? h("p", { class: "hint" }, `and ${count(tokens.length - MOST, "token")}`) : null;
  return h("div", { class: "tokens" }, h("div", { class: "token-row" }, tokens.slice(0, MOST).map(chip)), more, out);
}
