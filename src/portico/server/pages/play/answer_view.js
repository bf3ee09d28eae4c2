// One answer on screen while it grows: the thought folded, the text as Markdown, the calls, the error that ended it.
// Only what is new is drawn, once per frame, so that the page stays at hand however much comes.

import { h, oncePerFrame } from "../common/dom.js";
import { json } from "../common/syntax.js";
import { Flow } from "./flow.js";
import { indented } from "./wire_log.js";

const LONGEST_COLOURED = 10_000; // characters of a call's arguments

export class AnswerView {
  element = h("div", { class: "answer" });
  #thought = null; // {element, flow, taken}
  #text = null;
  #calls = []; // {element, code, taken}
  #answer = null;
  #ended = false;
  #drawn = null; // resolves `end`
  #draw = oncePerFrame(() => this.#step());

  /** Show an answer as far as it has come (see `Answer`). */
  show(answer) {
    this.#answer = answer;
    this.#draw();
  }

  /** It is complete; resolves when all of it is drawn. */
  end(answer) {
    this.#ended = true;
    this.show(answer);
    return new Promise((resolve) => (this.#drawn = resolve));
  }

  #step() {
    const { reasoning, content, calls } = this.#answer;
    if (reasoning && !this.#thought) this.#openThought();
    if (content && !this.#text) this.#openText();
    let behind = false;
    for (const [part, text] of [
      [this.#thought, reasoning],
      [this.#text, content],
    ]) {
      if (!part) continue;
      if (text.length > part.taken) part.flow.add(text.slice(part.taken));
      part.taken = text.length;
      if (this.#ended) part.flow.end();
      if (part.flow.behind) part.flow.step();
      behind ||= part.flow.behind;
    }
    calls.forEach((call, i) => call && this.#showCall(call, i));
    if (behind) this.#draw();
    else if (this.#ended) this.#drawn?.();
  }

  #openThought() {
    const flow = new Flow();
    const element = h("details", { class: "reasoning", open: true }, h("summary", {}, "Thought"), flow.element);
    this.#thought = { element, flow, taken: 0 };
    this.element.prepend(element);
  }

  #openText() {
    const flow = new Flow();
    flow.element.classList.add("content");
    this.#text = { flow, taken: 0 };
    if (this.#thought) this.#thought.element.after(flow.element);
    else this.element.prepend(flow.element);
    if (this.#thought) this.#thought.element.open = false;
  }

  #showCall(call, index) {
    let shown = this.#calls[index];
    if (!shown) {
      const code = h("pre", { class: "code", tabindex: 0 });
      const head = h("h3", {}, h("span", {}, "calls "), h("b", {}));
      const element = h("div", { class: "call" }, head, h("small", {}), code);
      shown = this.#calls[index] = { element, code, taken: 0 };
      this.element.append(element);
    }
    shown.element.querySelector("b").textContent = call.name;
    shown.element.querySelector("small").textContent = call.id;
    const news = call.arguments.slice(shown.taken);
    shown.taken = call.arguments.length;
    if (news) shown.code.append(news);
    if (!this.#ended || shown.done) return;
    shown.done = true;
    const whole = indented(call.arguments);
    shown.code.replaceChildren(...(whole.length > LONGEST_COLOURED ? [whole] : json(whole)).flat());
  }
}
