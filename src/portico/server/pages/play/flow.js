// Markdown that grows: what is finished is never touched again, so a long answer costs as little per token as a short one.
//
// Only the last block of a text can still change. It is read again when it has grown by an eighth (or was not for a
// while); what came since stands behind it as plain text. So a text of n characters is read at most some nine times in
// all, however it is cut, and never more than MOST at once: a block that grows beyond is cut at a line and goes on as
// another of its kind. No call here takes long, whatever came at once.

import { h } from "../common/dom.js";
import { blocksOf, nodesOf } from "./markdown.js";

const MOST = 6000; // characters of an open block
const SHARE = 1000; // characters taken up by one call
const PATIENCE = 700; // milliseconds that a block may stand as plain text
const TOGETHER = 16; // finished blocks that are laid out together, or not at all where they are out of sight
const WITHIN = "p, ul, ol, li, blockquote, .listing, pre, code"; // where a block's text goes on

export class Flow {
  element = h("div", { class: "markdown" });
  spent = 0; // characters that were read so far, again and again
  #waiting = ""; // not taken up yet
  #source = ""; // of the open block
  #read = 0; // characters of it that were read as Markdown
  #open = h("div", { class: "growing" });
  #part = null; // where finished blocks go; the element's other children are parts that are full
  #tail = document.createTextNode("");
  #at = 0;
  #now;
  #ended = false;

  /** `now()` tells milliseconds; without a clock only growth counts. */
  constructor(now = () => performance.now()) {
    this.#now = now;
    this.#open.append(this.#tail);
    this.element.append(this.#open);
  }

  add(text) {
    this.#waiting += text.replaceAll("\r", "");
  }

  /** Nothing more comes. */
  end() {
    this.#ended = true;
  }

  /** Whether there is something left for `step`. */
  get behind() {
    return this.#waiting !== "" || (this.#ended && this.#open.isConnected);
  }

  /** Show some of what waits; to be called once per frame as long as it is `behind`. */
  step() {
    const piece = this.#waiting.slice(0, SHARE);
    this.#waiting = this.#waiting.slice(SHARE);
    this.#source += piece;
    this.#tail.appendData(piece);
    const grown = this.#source.length - this.#read;
    const last = this.#ended && this.#waiting === "";
    const stale = grown > 0 && this.#now() - this.#at > PATIENCE;
    if (last || stale || (grown > 0 && grown >= this.#read / 8)) this.#render();
    if (last) this.#finish();
  }

  #render() {
    const blocks = this.#blocks();
    const open = Math.max(
      0,
      blocks.findLastIndex((block) => block.type !== "space"),
    );
    for (const block of blocks.slice(0, open)) this.#keep(block);
    let block = blocks[open];
    if (this.#source.length > MOST) {
      this.#cut(block);
      [block] = this.#blocks();
    }
    this.#open.replaceChildren(block ? nodesOf(block, false) : "");
    this.#tail = document.createTextNode(block ? this.#source.slice(block.raw.length) : "");
    this.#end().append(this.#tail);
    this.#read = this.#source.length;
    this.#at = this.#now();
  }

  #blocks() {
    this.spent += this.#source.length;
    return blocksOf(this.#source);
  }

  /** The first block of the source is complete. */
  #keep(block) {
    this.#put(block);
    this.#source = this.#source.slice(block.raw.length);
  }

  #put(block) {
    if (!this.#part || this.#part.childElementCount >= TOGETHER)
      this.#open.before((this.#part = h("div", { class: "part" })));
    this.#part.append(nodesOf(block, true));
  }

  /** The open block has become too long: its beginning is kept, the rest goes on as one of its kind. */
  #cut(block) {
    const half = MOST / 2;
    const line = this.#source.lastIndexOf("\n") + 1;
    const word = this.#source.lastIndexOf(" ") + 1;
    const at = line > half ? line : word > half ? word : MOST;
    const rest = this.#source.slice(at);
    const opener = /^ {0,3}(`{3,}|~{3,}).*\n/.exec(block.raw);
    const lines = block.raw.split("\n", 2);
    const again = block.type === "code" && opener ? opener[0] : block.type === "table" ? `${lines.join("\n")}\n` : "";
    this.#source = this.#source.slice(0, at);
    for (const one of this.#blocks()) this.#put(one);
    this.#source = rest && again + rest;
  }

  /** The element in which the open block's text goes on. */
  #end() {
    let element = this.#open;
    while (element.lastElementChild?.matches(WITHIN)) element = element.lastElementChild;
    return element;
  }

  #finish() {
    for (const block of this.#blocks()) this.#put(block);
    this.#source = "";
    this.#open.remove();
  }
}
