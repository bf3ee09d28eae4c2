// The bytes of an answer as they came, event by event. Of many only the first and the last are shown; the places of all
// are known, so that each can be found in the trace.

import { count, following, h, size } from "../common/dom.js";
import { json, wire } from "../common/syntax.js";

const FIRST = 150; // that stay in sight
const LAST = 150;
const AT_ONCE = 25; // that one step shows
const LONGEST = 20_000; // characters of one that are shown

export class WireLog {
  #list;
  #told;
  #onchoose;
  #follow;
  #waiting = []; // came since the last frame
  #shown = []; // {from, to, element}, the first ones and the last
  #gap = null; // the element that says how many are left out
  #count = 0;
  #bytes = 0;
  #to = 0;

  /** Shows in `list`, tells its size in `told`; `onchoose({from, to})` with the place of an event, in characters. */
  constructor(list, told, onchoose) {
    this.#list = list;
    this.#told = told;
    this.#onchoose = onchoose;
    this.#follow = following(list);
  }

  clear() {
    this.#waiting = [];
    this.#shown = [];
    this.#gap = null;
    this.#count = this.#bytes = this.#to = 0;
    this.#list.replaceChildren();
    this.#told.textContent = "";
  }

  /** Another event, as it came; `whole` where it is a body of its own. */
  add(text, whole = false) {
    this.#waiting.push({ from: this.#to, to: (this.#to += text.length), text, whole });
    this.#count += 1;
    this.#bytes += size(text);
    if (this.#waiting.length > FIRST + LAST) this.#waiting.splice(Math.max(0, FIRST - this.#shown.length), 1); // neither among the first nor the last
  }

  /** Whether there is something left for `step`. */
  get behind() {
    return this.#waiting.length > 0;
  }

  /** Show some of what came; to be called once per frame as long as it is `behind`. */
  step() {
    if (!this.behind) return;
    for (const event of this.#waiting.splice(0, AT_ONCE)) this.#show(event);
    while (this.#shown.length > FIRST + LAST) this.#shown.splice(FIRST, 1)[0].element.remove();
    const left = this.#count - this.#shown.length - this.#waiting.length;
    if (left > 0 && this.#shown.length > FIRST) {
      this.#gap ??= h("li", { class: "hint" });
      this.#gap.textContent = `${count(left, "event")} in between`;
      if (!this.#gap.isConnected) this.#shown[FIRST].element.before(this.#gap);
    }
    this.#told.textContent = `${count(this.#count, "event")}, ${count(this.#bytes, "byte")}`;
    this.#follow();
  }

  #show({ from, to, text, whole }) {
    const event = { from, to };
    const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text;
    const inside = whole ? json(indented(shown)) : wire(shown);
    const button = h("button", { type: "button", onclick: () => this.#onchoose(event) }, inside);
    event.element = h("li", {}, button);
    this.#shown.push(event);
    this.#list.append(event.element);
  }

  /** Mark the events that overlap one of these places. */
  mark(places) {
    let first = null;
    for (const event of this.#shown) {
      const hit = places.some(({ from, to }) => from < event.to && event.from < to);
      event.element.classList.toggle("marked", hit);
      first ??= hit ? event.element : null;
    }
    first?.scrollIntoView({ block: "nearest" });
  }
}

/** JSON text indented, other text as it is. */
export function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // not complete yet
  }
}
