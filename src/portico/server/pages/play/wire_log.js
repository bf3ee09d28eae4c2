// The bytes of an answer as they came, event by event. Of many only the first and the last are shown; the places of all
// are known, so that each can be found in the trace. They stand in parts, which come and go as a whole: what is out of
// sight is not laid out, and what is in sight does not move with each event that goes.

import { count, h, size } from "../common/dom.js";
import { json, wire } from "../common/syntax.js";

const TOGETHER = 10; // events of a part
const FIRST = 10; // parts that stay
const LAST = 6;
const SPARE = 4; // further parts, before they go together: to take out one costs the browser as much as to take out many
const AT_ONCE = 4; // events that one step shows
const LONGEST = 20_000; // characters of one that are shown

export class WireLog {
  #list;
  #told;
  #onchoose;
  #waiting = []; // came since the last frame
  #parts = []; // {element, events: [{from, to, element}]}, the first ones and the last
  #shown = 0; // events in them
  #gap = h("p", { class: "hint" }); // says how many are left out
  #count = 0;
  #bytes = 0;
  #to = 0;

  /** Shows in `list`, tells its size in `told`; `onchoose({from, to})` with the place of an event, in characters. */
  constructor(list, told, onchoose) {
    this.#list = list;
    this.#told = told;
    this.#onchoose = onchoose;
  }

  clear() {
    this.#waiting = [];
    this.#parts = [];
    this.#shown = this.#count = this.#bytes = this.#to = 0;
    this.#list.replaceChildren();
    this.#told.textContent = "";
  }

  /** Another event, as it came; `whole` where it is a body of its own. */
  add(text, whole = false) {
    this.#waiting.push({ from: this.#to, to: (this.#to += text.length), text, whole });
    this.#count += 1;
    this.#bytes += size(text);
    if (this.#waiting.length > (FIRST + LAST) * TOGETHER)
      this.#waiting.splice(Math.max(0, FIRST * TOGETHER - this.#shown), 1); // neither among the first nor the last
  }

  /** Whether there is something left for `step`. */
  get behind() {
    return this.#waiting.length > 0;
  }

  /** Show some of what came; to be called once per frame as long as it is `behind`. */
  step() {
    if (!this.behind) return;
    for (const event of this.#waiting.splice(0, AT_ONCE)) this.#show(event);
    const left = this.#count - this.#shown - this.#waiting.length;
    if (left > 0 && this.#parts.length > FIRST) {
      this.#gap.textContent = `${count(left, "event")} in between`;
      if (!this.#gap.isConnected) this.#parts[FIRST].element.before(this.#gap);
    }
    this.#told.textContent = `${count(this.#count, "event")}, ${count(this.#bytes, "byte")}`;
  }

  #show({ from, to, text, whole }) {
    const event = { from, to };
    const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text;
    const inside = whole ? json(indented(shown)) : wire(shown);
    const button = h("button", { type: "button", onclick: () => this.#onchoose(event) }, inside);
    event.element = h("li", {}, button);
    const part = this.#open();
    part.events.push(event);
    part.element.append(event.element);
    this.#shown += 1;
  }

  /** The part where the next event goes: with a new one, the oldest of the last ones may go. */
  #open() {
    const last = this.#parts.at(-1);
    if (last && last.events.length < TOGETHER) return last;
    const part = { element: h("ol", {}), events: [] };
    this.#parts.push(part);
    this.#list.append(part.element);
    const gone = this.#parts.length > FIRST + LAST + SPARE ? this.#parts.splice(FIRST, SPARE) : [];
    for (const { element, events } of gone) {
      element.remove();
      this.#shown -= events.length;
    }
    return part;
  }

  /** Mark the events that overlap one of these places. */
  mark(places) {
    let first = null;
    for (const event of this.#parts.flatMap((part) => part.events)) {
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
