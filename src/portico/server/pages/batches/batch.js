// One batch in full. It is drawn in parts, each when what it is drawn of has changed: what changes all the time has
// nothing in it that can be focused.

import { get, open } from "../common/api.js";
import { h } from "../common/dom.js";
import { facts, failures, figures, files, problems, progress, STATES } from "./batch_parts.js";

const COUNTS = ["total", "succeeded", "errored", "cancelled", "expired"];

export class BatchView {
  #element;
  #onchange;
  #id = null;
  #head = null;
  #details = null;
  #pace = null;
  #asked = ""; // of what the details were last asked for
  #drawn = {}; // part -> what it was drawn of
  now = 0; // the server's time, as last told

  /** `onchange` is called when the reader has done something to a batch. */
  constructor(element, onchange) {
    this.#element = element;
    this.#onchange = onchange;
  }

  /** Show the batch of that id, as soon as something is known of it. */
  open(id) {
    this.#id = id;
    this.#head = this.#details = this.#pace = null;
    this.#asked = "";
    this.#drawn = {};
    this.#element.replaceChildren(
      ...["head", "progress", "figures", "problems", "failures", "files", "facts"].map((name) =>
        h("section", { data: { part: name } }),
      ),
    );
    this.refresh();
  }

  /** So the list says of it. */
  show(head, pace) {
    this.#head = head;
    this.#pace = pace;
    const wanted = JSON.stringify([head.status, head.total, Object.keys(head.failures).sort()]);
    if (this.#asked !== wanted) {
      this.#asked = wanted;
      this.refresh();
    }
    this.#draw();
  }

  /** Ask the server for all that is known of it. */
  async refresh() {
    const id = this.#id;
    try {
      const found = await get(`/batches/jobs/${encodeURIComponent(id)}`);
      if (id !== this.#id) return;
      this.#details = found;
      this.now = found.now;
      this.#draw();
    } catch (error) {
      if (id !== this.#id) return;
      this.#asked = ""; // so the next look asks again
      if (error.status !== 404) return; // the list says what is wrong with the server
      this.#tell("head", error.message, () => h("p", { class: "refusal" }, error.message));
      this.#element.hidden = false;
    }
  }

  #draw() {
    const batch = { ...this.#details, ...this.#head };
    if (!batch.status) return;
    this.#element.hidden = false;
    const details = this.#details ?? { files: [], examples: [], problems: [], metadata: null, usage: null };
    const { status } = batch;
    const cancel = STATES[status].runs && status !== "cancelling" && details.cancel;
    this.#tell("head", [batch.id, status, batch.began_at, batch.errored > 0, cancel], () =>
      this.#heading(batch, cancel),
    );
    this.#tell("progress", [...COUNTS.map((name) => batch[name]), status], () => progress(batch));
    this.#tell("figures", [this.now, batch], () => figures(batch, this.now, this.#pace));
    this.#tell("problems", details.problems, () => problems(details.problems));
    this.#tell("failures", [batch.failures, details.examples], () => failures(batch, details.examples));
    this.#tell("files", [details.files, status], () => files(details.files, batch));
    this.#tell("facts", [details.metadata, details.usage, batch.began_at, batch.ended_at, batch.model], () =>
      facts(batch, details),
    );
  }

  /** Draw a part, if what it is drawn of has changed. */
  #tell(name, of, build) {
    const key = JSON.stringify(of);
    if (this.#drawn[name] === key) return;
    this.#drawn[name] = key;
    const part = this.#element.querySelector(`[data-part="${name}"]`);
    part.replaceChildren(...[build()].flat(2).filter(Boolean));
    part.hidden = !part.childNodes.length;
  }

  #heading(batch, cancel) {
    const state = STATES[batch.status];
    return [
      h("h2", {}, batch.id),
      h("span", { class: `badge ${state.mark}` }, state.word(batch)),
      cancel && h("button", { type: "button", id: "cancel", onclick: () => this.#cancel(cancel) }, "Cancel the batch"),
    ];
  }

  #cancel(path) {
    const dialog = h(
      "dialog",
      { class: "card", "aria-labelledby": "cancel-title" },
      h("h2", { id: "cancel-title" }, "Cancel this batch?"),
      h("p", {}, "What has come out is kept. The other lines are not run any more."),
      h(
        "form",
        { method: "dialog", class: "actions" },
        h("button", { value: "" }, "Let it run"),
        h("button", { value: "cancel", class: "primary" }, "Cancel the batch"),
      ),
    );
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "cancel") return;
      try {
        await open(path, { method: "POST" });
      } catch (error) {
        this.#element.prepend(h("p", { class: "refusal", role: "alert" }, error.message));
      }
      this.refresh();
      this.#onchange();
    });
    document.body.append(dialog);
    dialog.showModal();
  }
}
