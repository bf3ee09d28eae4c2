// A list of which one entry is chosen, as both the inspector and the batches have it: it grows while it is looked at,
// so it is drawn with as few changes as there are, and can be walked through with the keyboard meanwhile.

import { h } from "./dom.js";

export class ChoiceList {
  #rows = new Map(); // id -> element
  #element;
  #fill;
  #go;

  /** `fill(row, item)` shows an item that has changed; `go(id)` is called when the reader chooses one. */
  constructor(element, fill, go) {
    this.#element = element;
    this.#fill = fill;
    this.#go = go;
    element.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) go(row.dataset.id);
    });
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show these items, which have ids, in this order; the one with the id `chosen` is marked. */
  draw(items, chosen) {
    const wanted = new Set(items.map((item) => item.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    let place = this.#element.firstChild;
    for (const item of items) {
      let row = this.#rows.get(item.id);
      if (!row) this.#rows.set(item.id, (row = h("li", { role: "option", tabindex: "-1", data: { id: item.id } })));
      if (row.item !== item) {
        row.item = item;
        this.#fill(row, item);
      }
      if (row === place) place = place.nextSibling;
      else this.#element.insertBefore(row, place);
    }
    this.#element.hidden = !items.length;
    this.mark(chosen);
    const rows = [...this.#element.children];
    const stop = rows.find((row) => row === document.activeElement || row.dataset.id === chosen) ?? rows[0];
    for (const row of rows) row.tabIndex = row === stop ? 0 : -1;
  }

  /** That one is chosen. */
  mark(id) {
    for (const row of this.#element.children) row.setAttribute("aria-selected", String(row.dataset.id === id));
  }

  /** Go to where the keyboard enters the list. */
  focus() {
    this.#element.querySelector('[tabindex="0"]')?.focus();
  }

  #key(event) {
    const rows = [...this.#element.children];
    const here = rows.indexOf(document.activeElement);
    const to = {
      ArrowDown: here + 1,
      ArrowUp: here - 1,
      Home: 0,
      End: rows.length - 1,
      PageDown: Math.min(rows.length - 1, here + 10),
      PageUp: Math.max(0, here - 10),
    }[event.key];
    if (event.key === "Enter" || event.key === " ") this.#go(rows[here].dataset.id);
    else if (to === undefined) return;
    else if (rows[to]) {
      for (const row of rows) row.tabIndex = -1;
      rows[to].tabIndex = 0;
      rows[to].focus();
    }
    event.preventDefault();
  }
}
