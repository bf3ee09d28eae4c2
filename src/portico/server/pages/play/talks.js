// The list of kept conversations: search, open, rename, forget, export, import.

import { count, h } from "../common/dom.js";
import { Conversation } from "./conversation.js";
import { forget, keep, kept } from "./storage.js";

const $ = (id) => document.getElementById(id);
const MOST = 100; // in the list

const wordsOf = (talk) =>
  `${talk.name} ${talk.nodes.map((node) => node.text ?? node.content ?? "").join(" ")}`.toLowerCase();

export class Talks {
  #current;
  #onopen;

  /** `current()` is the conversation that is open; `onopen(conversation)` when another is wanted. */
  constructor(current, onopen) {
    this.#current = current;
    this.#onopen = onopen;
    $("talk-search").addEventListener("input", () => this.draw());
    $("new-talk").addEventListener("click", () => this.#open(new Conversation()));
    $("rename-talk").addEventListener("click", () => this.#rename());
    $("forget-talk").addEventListener("click", () => this.#forget());
    $("export-talk").addEventListener("click", () => this.#export());
    $("import-talk").addEventListener("change", (event) => this.#import(event.target));
  }

  /** Keep the open conversation and show the list. */
  async keep() {
    const talk = this.#current();
    if (talk.nodes.size > 1) await keep(structuredClone(talk.saved())).catch((error) => this.#tell(error.message));
    await this.draw();
  }

  async draw() {
    const wanted = $("talk-search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const all = await kept();
    const fitting = all.filter((talk) => wanted.every((word) => wordsOf(talk).includes(word)));
    $("talks").replaceChildren(
      ...fitting.slice(0, MOST).map((talk) => {
        const here = talk.id === this.#current().id;
        const button = { type: "button", class: "quiet", "aria-current": here ? "true" : null };
        return h("li", {}, h("button", { ...button, onclick: () => this.#open(Conversation.from(talk)) }, talk.name));
      }),
    );
    this.#tell(wanted.length ? `${fitting.length} of ${all.length}` : count(all.length, "conversation"));
  }

  #tell(text) {
    $("talk-count").textContent = text;
  }

  #open(conversation) {
    this.#onopen(conversation);
    this.draw();
  }

  #rename() {
    const talk = this.#current();
    const field = h("input", { "aria-label": "Name of the conversation" });
    field.value = talk.title;
    const done = () => {
      talk.name = field.value.trim();
      field.remove();
      this.keep();
    };
    field.addEventListener("keydown", (event) => event.key === "Enter" && field.blur());
    field.addEventListener("blur", done, { once: true });
    $("talks").before(field);
    field.select();
  }

  async #forget() {
    await forget(this.#current().id);
    this.#open(new Conversation());
  }

  #export() {
    const text = JSON.stringify(this.#current().saved(), null, 1);
    const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    h("a", { href, download: "conversation.json" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }

  async #import(input) {
    try {
      this.#open(Conversation.from({ ...JSON.parse(await input.files[0].text()), id: undefined }));
      await this.keep();
    } catch (error) {
      this.#tell(`It cannot be read: ${error.message}`);
    }
    input.value = "";
  }
}
