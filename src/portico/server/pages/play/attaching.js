// Pictures and texts that go with the next message: chosen, dropped or pasted. Pictures only where the model sees.

import { isPicture } from "../apis/files.js";
import { h } from "../common/dom.js";

const MOST = 20 * 2 ** 20; // bytes of all of them; more does not go into a request
const $ = (id) => document.getElementById(id);

export class Attaching {
  files = [];
  #sees;
  #refuse;

  /** `sees()`: whether the model does; `refuse(error)` says what cannot be attached. */
  constructor(sees, refuse) {
    this.#sees = sees;
    this.#refuse = refuse;
    $("files").addEventListener("change", async () => {
      await this.#add([...$("files").files]);
      $("files").value = "";
    });
    const take = (event, transfer) => {
      if (!transfer?.files.length || $("attach").hidden) return;
      event.preventDefault();
      this.#add([...transfer.files]);
    };
    $("message").addEventListener("paste", (event) => take(event, event.clipboardData));
    $("message").addEventListener("drop", (event) => take(event, event.dataTransfer));
  }

  /** Offer what the chosen model and API take; `lacking`: nothing. */
  offer(lacking) {
    $("attach").hidden = lacking;
    const sees = this.#sees();
    $("files").accept = sees ? "image/*,text/*,application/json" : "text/*,application/json";
    $("attach-what").textContent = sees ? "Attach pictures or texts" : "Attach texts";
    if (lacking) this.set([]);
  }

  set(files) {
    this.files = files;
    $("attached").replaceChildren(...files.map((file, place) => this.#entry(file, place)));
    $("attached").hidden = !files.length;
  }

  async #add(chosen) {
    if (chosen.some(isPicture) && !this.#sees()) return this.#refuse(new Error("This model does not see pictures."));
    const size = chosen.reduce((sum, file) => sum + file.size, 0);
    if (size + this.files.reduce((sum, file) => sum + file.url.length * 0.75, 0) > MOST)
      return this.#refuse(new Error("These files are too large for one request: 20 MB go into it."));
    this.#refuse(null);
    this.set([...this.files, ...(await Promise.all(chosen.map(read)))]);
  }

  #entry(file, place) {
    const drop = () => this.set(this.files.filter((_, i) => i !== place));
    const says = `Leave out ${file.name}`;
    return h(
      "li",
      {},
      shownFile(file),
      h("button", { type: "button", class: "quiet small", "aria-label": says, title: says, onclick: drop }, "✕"),
    );
  }
}

/** A file in a turn: the picture, or its name. Pictures that are elsewhere are not fetched. */
export function shownFile(file) {
  return isPicture(file) && file.url.startsWith("data:")
    ? h("img", { class: "thumbnail", src: file.url, alt: file.name })
    : h("span", { class: "file" }, file.name);
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name: file.name || "picture", type: file.type, url: reader.result });
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
