// The line as six lanes: boxes on an axis, drawn only where they can be seen.
//
// Everything between two frames is one redraw: layout (positions of all), boxes (narrow neighbours merged), then the
// elements of what is in view. Looking at an artifact (pointer or focus) lights up all it was made from and all that came
// of it, and draws the connections; the rest steps back. One element at a time is in the tab order; arrows move:
// left and right within the lane, up and down along the connections, + - 0 zoom.

import { count, h, oncePerFrame } from "../common/dom.js";
import { Connections } from "./connections.js";
import { boxes, inOrder, inTime, MAIN } from "./layout.js";
import { caption, LANES, nameOf, timing } from "./model.js";
import { Sight } from "./sight.js";

const HEAD = 22; // pixels: the axis
const BOX = 26;
const THIN = 15;
const PAD = 5;
const BETWEEN = 3;

export class Lanes {
  /** `onselect(id)` when an artifact is chosen, `onlook(id or null)` when one is pointed at. */
  constructor({ onselect, onlook }) {
    this._onselect = onselect;
    this._onlook = onlook;
    this.axis = "order";
    this._zoom = { order: 1, time: 1 };
    this._elements = new Map(); // "first id" -> element
    this._redraw = oncePerFrame(() => this._draw());
    this._relayout = oncePerFrame(() => this._lay());

    this._names = h("div", { class: "lane-names", "aria-hidden": "true" });
    this._connections = new Connections();
    this._axis = h("div", { class: "axis", "aria-hidden": "true" });
    this._rows = LANES.map((lane) =>
      h("div", { class: "lane", role: "group", "aria-label": `${lane.name} lane`, data: { lane: lane.name } }),
    );
    this._sheet = h("div", { class: "sheet" }, this._axis, this._rows, this._connections.element);
    this._scroller = h("div", { class: "scroller" }, this._sheet);
    this._sight = new Sight(this._scroller, this._redraw, this._relayout);
    this.element = h(
      "div",
      { class: "lanes", role: "group", "aria-label": "Artifacts, lane by lane. Arrow keys move, plus and minus zoom." },
      this._names,
      this._scroller,
    );
    this._listen();
    this.show(null);
  }

  show(trace) {
    this._trace = trace;
    this._layout = undefined; // that of the one before is not drawn any more
    this._selected = this._looked = null;
    this._sight.follows = true; // the end, while the request runs
    this._wasOpen = false;
    this._axisChosen = false;
    this._zoom = { order: 1, time: 1 };
    this._clear();
    this._sight.scrollTo(0);
    this._relayout();
  }

  /** The trace has grown or changed. */
  changed() {
    if (!this._axisChosen) this.axis = "order";
    this._relayout();
  }

  setAxis(axis) {
    const middle = this._atCentre();
    this._axisChosen = true;
    this.axis = axis;
    this._lay();
    if (this._selected !== null) this.reveal(this._selected);
    else if (middle !== undefined) this.reveal(middle);
  }

  /** Zoom by a factor around a point of the view (its middle, unless told). */
  zoom(factor, anchor = this._sight.width / 2) {
    const before = (this._sight.left + anchor) / Math.max(1, this._width);
    const lowest = this.axis === "time" ? 1 : this._fitting();
    this._zoom[this.axis] = Math.min(this.axis === "time" ? 1e6 : 3, Math.max(lowest, this._zoom[this.axis] * factor));
    this._lay();
    this._sight.scrollTo(before * this._width - anchor);
    this._draw();
  }

  fit() {
    this._zoom[this.axis] = this.axis === "time" ? 1 : this._fitting();
    this._lay();
  }

  _fitting() {
    if (!this._trace?.artifacts.length) return 1;
    return Math.min(1, (this._sight.width - 16) / inOrder(this._trace, 1).width);
  }

  select(id) {
    this._selected = id;
    if (id !== null) this.reveal(id);
    this._draw();
  }

  /** Scroll so that the artifact is in view, and draw it. */
  reveal(id) {
    if (this._layout === undefined) this._lay();
    const place = this._layout?.places.get(id);
    if (!place) return;
    const { left, width } = this._sight;
    if (place.x < left + 8) this._sight.scrollTo(place.x - 40);
    else if (place.x + Math.min(place.w, 120) > left + width - 8) this._sight.scrollTo(place.x - width / 2);
    this._draw();
  }

  focus() {
    this._scroller.querySelector('[tabindex="0"]')?.focus();
  }

  // -- drawing ----------------------------------------------------------------------------------------------------------

  _clear() {
    for (const element of this._elements.values()) element.remove();
    this._elements.clear();
    this._connections.clear();
  }

  _lay() {
    const trace = this._trace;
    if (!trace?.artifacts.length || this.element.closest("[hidden]")) return;
    const view = Math.max(200, this._sight.width - 12);
    this._layout = this.axis === "time" ? inTime(trace, this._zoom.time, view) : inOrder(trace, this._zoom.order);
    this._boxes = boxes(trace, this._layout.places);
    this._width = this._layout.width;
    this._thin = new Set();
    for (const place of this._layout.places.values()) if (place.row !== MAIN) this._thin.add(place.lane);
    let top = HEAD;
    this._top = {};
    this._names.replaceChildren(h("div", { class: "lane-name axis-name" }, this.axis === "time" ? "time" : "beat"));
    this._names.firstChild.style.height = `${HEAD}px`;
    LANES.forEach((lane, i) => {
      const height = PAD * 2 + BOX + (this._thin.has(lane.name) ? THIN + BETWEEN : 0);
      this._top[lane.name] = top;
      this._rows[i].style.top = `${top}px`;
      this._rows[i].style.height = `${height}px`;
      const name = h("div", { class: "lane-name", title: lane.says }, h("b", {}, lane.name), h("span", {}, lane.box));
      name.style.height = `${height}px`;
      this._names.append(name);
      top += height;
    });
    this._height = top;
    this._sheet.style.height = `${top}px`;
    this._sheet.style.width = `${Math.max(this._width, view)}px`;
    const open = trace.head?.state === "open";
    this._sight.resize(Math.max(this._width, view), this._sight.follows && (open || this._wasOpen));
    this._wasOpen = open;
    this._draw();
  }

  /** Where a row lies in its lane: the thin one under the main one, on the wire over it. */
  _row(lane, row) {
    const over = lane === "wire" && this._thin.has(lane);
    if (row === MAIN) return { top: over ? PAD + THIN + BETWEEN : PAD, height: BOX };
    return { top: over ? PAD : PAD + BOX + BETWEEN, height: THIN };
  }

  _draw() {
    if (!this._layout || !this._trace) return;
    const from = this._sight.left - 200;
    const to = from + this._sight.width + 400;
    const wanted = new Map();
    LANES.forEach((lane, i) => {
      const all = this._boxes[lane.name] ?? [];
      for (const box of all) {
        if (box.x > to) break;
        if (box.x + box.w >= from || this._holdsFocus(box)) wanted.set(box.ids[0], { box, row: this._rows[i] });
      }
    });
    for (const [id, element] of this._elements) {
      if (wanted.has(id)) continue;
      element.remove();
      this._elements.delete(id);
    }
    for (const [id, { box, row }] of wanted) {
      const known = this._elements.get(id);
      const element = known ?? h("button", { type: "button" });
      this._fill(element, box);
      if (known) continue;
      this._elements.set(id, element);
      const after = [...row.children].find((other) => Number(other.dataset.first) > id); // reading order is the order they were made in
      row.insertBefore(element, after ?? null);
    }
    this._drawAxis(from, to);
    this._light();
  }

  _holdsFocus(box) {
    return (
      document.activeElement?.closest?.(".lanes") === this.element &&
      Number(document.activeElement.dataset.first) === box.ids[0]
    );
  }

  _fill(element, box) {
    element.style.left = `${box.x}px`;
    element.style.width = `${Math.max(1.5, box.w)}px`;
    const artifact = this._trace.get(box.ids[0]);
    const row = this._row(artifact.lane, box.row);
    element.style.top = `${row.top}px`;
    element.style.height = `${row.height}px`;
    element.box = box;
    const many = box.ids.length > 1;
    const key = many ? `${box.ids.length}` : artifact;
    const flag = this.axis === "time" && artifact.kind !== "held" && box.solid < box.w - 1;
    element.classList.toggle("flag", flag);
    if (flag) element.style.setProperty("--solid", `${box.solid}px`);
    element.classList.toggle("tiny", box.w < 22);
    if (element.drawn === key) return;
    element.drawn = key;
    element.dataset.first = box.ids[0];
    if (many) delete element.dataset.id;
    else element.dataset.id = artifact.id;
    element.className = `box ${artifact.by} ${artifact.kind}${many ? " merged" : ""}${artifact.took === null ? " open" : ""}${flag ? " flag" : ""}${box.w < 22 ? " tiny" : ""}`;
    if (artifact.kind === "event") element.dataset.type = artifact.data.type;
    element.replaceChildren(h("span", {}, many ? `×${box.ids.length}` : caption(artifact)));
    element.setAttribute(
      "aria-label",
      many
        ? `${count(box.ids.length, "artifact")} of the ${artifact.lane} lane; press Enter to zoom in`
        : `${nameOf(artifact)}: ${caption(artifact)}; ${artifact.by}, ${timing(artifact)}`,
    );
  }

  _drawAxis(from, to) {
    const ticks = this._layout.ticks.filter((tick) => tick.x >= from && tick.x <= to);
    this._axis.replaceChildren(
      ...ticks.map((tick) => {
        const element = h("span", {}, tick.label);
        element.style.left = `${tick.x}px`;
        return element;
      }),
    );
  }

  // -- lighting up ------------------------------------------------------------------------------------------------------

  look(id) {
    if (this._looked === id) return;
    this._looked = id;
    this._onlook(id);
    this._light();
  }

  _light() {
    const trace = this._trace;
    const centre = this._looked ?? this._selected;
    const known = centre !== null && trace.get(centre);
    const up = known ? trace.ancestors(centre) : new Set();
    const down = known ? trace.descendants(centre) : new Set();
    this.element.classList.toggle("lit", Boolean(known));
    const first = this._tabStop();
    for (const element of this._elements.values()) {
      const { ids } = element.box;
      element.classList.toggle("centre", known !== false && ids.includes(centre));
      element.classList.toggle(
        "ancestor",
        ids.some((id) => up.has(id)),
      );
      element.classList.toggle(
        "descendant",
        ids.some((id) => down.has(id)),
      );
      const selected = ids.includes(this._selected);
      element.classList.toggle("selected", selected);
      element.setAttribute("aria-pressed", String(selected));
      element.tabIndex = element === first ? 0 : -1;
    }
    const { left, width } = this._sight;
    const where = { left, width, height: this._height, edges: (id) => this._edges(id) };
    this._connections.draw(trace, known ? new Set([centre, ...up, ...down]) : new Set(), up.add(centre), where);
  }

  /** Where an artifact lies on the sheet, in pixels. */
  _edges(id) {
    const place = this._layout.places.get(id);
    if (!place) return null;
    const { top, height } = this._row(place.lane, place.row);
    const y = this._top[place.lane] + top;
    return {
      left: place.x,
      right: place.x + place.w,
      end: place.x + Math.min(place.w, place.solid),
      top: y,
      bottom: y + height,
    };
  }

  /** The one element that Tab reaches: the focused, else the selected, else the first in view. */
  _tabStop() {
    const all = [...this._elements.values()];
    return (
      all.find((element) => element === document.activeElement) ??
      all.find((element) => this._selected !== null && element.box.ids.includes(this._selected)) ??
      all[0]
    );
  }

  // -- hands --------------------------------------------------------------------------------------------------------------

  _listen() {
    const idOf = (event) => {
      const id = event.target.closest?.(".box")?.dataset.id;
      return id === undefined ? null : Number(id);
    };
    this._sheet.addEventListener("pointerover", (event) => this.look(idOf(event)));
    this._sheet.addEventListener("pointerleave", () => this.look(null));
    this._sheet.addEventListener(
      "focusin",
      (event) => event.target.matches(":focus-visible") && this.look(idOf(event)),
    );
    this._sheet.addEventListener("focusout", () => this.look(null));
    this._sheet.addEventListener("click", (event) => {
      const box = event.target.closest(".box")?.box;
      if (!box) return;
      if (box.ids.length > 1) this._enter(box);
      else this._onselect(box.ids[0], event.detail === 0);
    });
    this._scroller.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 240), event.clientX - this._scroller.getBoundingClientRect().left);
      },
      { passive: false },
    );
    this.element.addEventListener("keydown", (event) => this._key(event));
  }

  /** Zoom in on a merged run, until it is what the view shows. */
  _enter(box) {
    this._sight.follows = false;
    this.zoom(Math.max(4, (this._sight.width * 0.6) / Math.max(4, box.w)), box.x + box.w / 2 - this._sight.left);
    const element =
      this._elements.get(box.ids[0]) ??
      [...this._elements.values()].find((one) => box.ids.some((id) => one.box.ids.includes(id)));
    element?.focus({ preventScroll: true });
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      "+": () => this.zoom(1.5),
      "=": () => this.zoom(1.5),
      "-": () => this.zoom(1 / 1.5),
      0: () => this.fit(),
    };
    const focused = document.activeElement?.box;
    if (focused) {
      const lane = this._boxes[this._trace.get(focused.ids[0]).lane];
      const here = lane.findIndex((box) => box.ids[0] === focused.ids[0]);
      Object.assign(actions, {
        ArrowRight: () => this._go(lane[here + 1]),
        ArrowLeft: () => this._go(lane[here - 1]),
        Home: () => this._go(lane[0]),
        End: () => this._go(lane.at(-1)),
        ArrowUp: () => this._go(this._across(focused, -1)),
        ArrowDown: () => this._go(this._across(focused, 1)),
      });
    }
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  /** The next box up or down: the nearest relative in the next lane that has one, else the nearest box there. */
  _across(box, way) {
    const id = box.ids[0];
    const here = LANES.findIndex((lane) => lane.name === this._trace.get(id).lane);
    const relatives = way < 0 ? this._trace.ancestors(id) : this._trace.descendants(id);
    for (let i = here + way; LANES[i]; i += way) {
      const lane = this._boxes[LANES[i].name] ?? [];
      const related = lane.filter((other) => other.ids.some((one) => relatives.has(one)));
      const nearest = (list) =>
        list.reduce(
          (best, other) => (!best || Math.abs(other.x - box.x) < Math.abs(best.x - box.x) ? other : best),
          null,
        );
      if (lane.length) return nearest(related.length ? related : lane);
    }
    return null;
  }

  _go(box) {
    if (!box) return;
    this._sight.follows = false;
    this.reveal(box.ids[0]);
    this._elements.get(box.ids[0])?.focus({ preventScroll: true });
    this._draw();
  }

  _atCentre() {
    const middle = this._sight.left + this._sight.width / 2;
    if (!this._layout || this._width <= this._sight.width) return undefined;
    return [...this._layout.places].find(([, place]) => place.x >= middle)?.[0];
  }
}
