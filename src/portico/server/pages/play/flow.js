// Markdown that grows: what is finished is never touched again, so a long answer costs as little per token as a short one.
//
// Only the last block of a text can still change. It is read again when it has grown by an eighth (or was not for a
// while), and of its nodes only those are renewed that became others; what came since stands behind it as plain text. So
// a text of n characters is read at most some nine times in all, however it is cut, and never much at once: a block that
// grows too long is cut and goes on as another of its kind, a listing and a table in further pieces of the same one. No
// call here takes long, whatever came at once.

import { h, renew } from "../common/dom.js";
import { blocksOf, nodesOf } from "./markdown.js";

const MOST = { code: 1500, list: 1500, table: 1000, other: 3000 }; // characters of an open block
const PIECES = 12; // of one table: where cells are added, the browser goes through all of it
const SHARE = 500; // characters taken up by one call
const PATIENCE = 700; // milliseconds that a block may stand as plain text
const TOGETHER = 16; // blocks, or
const FULL = 3000; // characters, that are laid out together, or not at all where they are out of sight
const WITHIN = "p, ul, ol, li, blockquote, .listing, pre, pre > code"; // where a block's text goes on

export class Flow {
  element = h("div", { class: "markdown" });
  spent = 0; // characters that were read so far, again and again
  #waiting = ""; // not taken up yet
  #source = ""; // of the open block
  #read = 0; // characters of it that were read as Markdown
  #part = null; // the last part of the element: blocks
  #size = 0; // characters in it
  #open = null; // where the open block's nodes go: an element at the end of the part, or of what goes on
  #start = null; // the number of the first item, where the open block is a list that goes on
  #tail = document.createTextNode("");
  #at = 0;
  #now;
  #ended = false;
  #done = false;

  /** `now()` tells milliseconds; without a clock only growth counts. */
  constructor(now = () => performance.now()) {
    this.#now = now;
    this.#begin();
    this.#open.append(this.#tail);
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
    return this.#waiting !== "" || (this.#ended && !this.#done);
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
    this.#tail.remove();
    const blocks = this.#blocks();
    const open = Math.max(
      0,
      blocks.findLastIndex((block) => block.type !== "space"),
    );
    for (const block of blocks.slice(0, open)) this.#keep(block);
    let block = blocks[open];
    const most = MOST[block?.type] ?? MOST.other;
    if (this.#source.length > most) {
      this.#cut(block, most);
      [block] = this.#blocks();
    }
    this.#draw(block, false);
    this.#tail = document.createTextNode(block ? this.#source.slice(block.raw.length) : "");
    this.#end().append(this.#tail);
    this.#read = this.#source.length;
    this.#at = this.#now();
  }

  #blocks() {
    this.spent += this.#source.length;
    const blocks = blocksOf(this.#source);
    if (this.#start !== null && blocks[0]?.ordered) blocks[0].start = this.#start;
    return blocks;
  }

  #draw(block, finished) {
    const nodes = block ? nodesOf(block, finished) : new DocumentFragment();
    const { localName } = this.#open;
    renew(this.#open, localName === "div" ? nodes : (nodes.querySelector(localName) ?? new DocumentFragment()));
  }

  /** The first block of the source is complete. */
  #keep(block) {
    this.#source = this.#source.slice(block.raw.length);
    if (block.type === "space") return;
    this.#draw(block, true);
    this.#size += block.raw.length;
    this.#begin();
  }

  /** Another block is open, in a new part where the last is full. */
  #begin() {
    if (!this.#open?.hasChildNodes()) this.#open?.remove(); // of a block that shows nothing
    const many = this.#part?.childElementCount ?? TOGETHER;
    if (many >= TOGETHER || (many > 0 && this.#size >= FULL)) {
      this.#size = 0;
      this.element.append((this.#part = h("div", { class: "part" })));
    }
    this.#part.append((this.#open = h("div", { class: "block" })));
    this.#start = null;
  }

  /** The open block has become too long: its beginning is kept, the rest goes on as one of its kind. */
  #cut(block, most) {
    if (block.type === "list" && block.items.length > 1) return this.#cutList(block);
    const behind = (sign) => this.#source.lastIndexOf(sign, this.#source.length - sign.length - 1) + sign.length;
    const at = ["\n", ". ", " "].map(behind).find((place) => place > most / 2) ?? most;
    const [start, rest] = [this.#source.slice(0, at), this.#source.slice(at)];
    const begun = this.#open;
    const opener = { code: /^ {0,3}(`{3,}|~{3,}).*\n/, table: /^.*\n.*\n/ }[block.type]?.exec(block.raw)?.[0] ?? "";
    this.#source = start;
    for (const one of this.#blocks()) this.#keep(one);
    this.#source = opener + rest;
    if (!opener) this.#open.classList.add("on");
    else if (block.type === "table") this.#goOn(begun, h("tbody"), PIECES);
    else this.#goOn(begun, h("code", { class: start.endsWith("\n") ? "lines" : null }));
  }

  /** All items but the last are kept. */
  #cutList(block) {
    const items = block.items.slice(0, -1);
    const raw = block.raw.slice(0, -block.items.at(-1).raw.length);
    const next = block.ordered ? Number(block.start) + items.length : null;
    this.#keep({ ...block, items, raw });
    this.#open.classList.add("on");
    this.#start = next;
  }

  /** What is open now is another `piece` of what was `begun`, unless there are `most` already. */
  #goOn(begun, piece, most = Infinity) {
    const last = begun.localName === "div" ? begun.querySelector(piece.localName) : begun;
    if (!last || last.parentElement.childElementCount > most) return;
    if (piece.className === "lines") last.append("\n");
    this.#open.remove();
    last.after((this.#open = piece));
  }

  /** The element in which the open block's text goes on. */
  #end() {
    let element = this.#open.localName === "tbody" ? this.#open.closest(".block") : this.#open;
    while (element.lastElementChild?.matches(WITHIN)) element = element.lastElementChild;
    return element;
  }

  #finish() {
    this.#tail.remove();
    for (const block of this.#blocks()) this.#keep(block);
    this.#source = "";
    this.#open.remove();
    if (!this.#part.hasChildNodes()) this.#part.remove();
    this.#done = true;
  }
}
