// The lines between artifacts that belong together. They are drawn over what is in view only: the drawing moves along with
// the view, and a line that would lead out of it is drawn for a few, as a sign that there are more.

const SVG = "http://www.w3.org/2000/svg";
const MOST = 500;
const MOST_LEAVING = 6;
const MANY = 24; // from which on lines are drawn thinner
const TIP = 22; // pixels: lines end that far into a box, or in its middle

export class Connections {
  constructor() {
    this.element = document.createElementNS(SVG, "svg");
    this.element.setAttribute("aria-hidden", "true");
    this.element.classList.add("lines");
  }

  clear() {
    this.element.replaceChildren();
  }

  /**
   * Draw every line within `family`, a set of ids; those to the ids in `up` lead to what is looked at. The view begins at
   * `left` and is `width` wide; `edges(id)` gives a box as `{left, right, end, top, bottom}`, `end` where its colour ends.
   */
  draw(trace, family, up, { left, width, height, edges }) {
    const paths = [];
    let leaving = 0;
    const seen = (box) => box.left <= left + width && box.right >= left;
    for (const id of family) {
      const to = edges(id);
      for (const parent of trace.parents(id)) {
        const from = edges(parent);
        if (!family.has(parent) || !from || !to || paths.length >= MOST || !(seen(from) || seen(to))) continue;
        if (!(seen(from) && seen(to)) && leaving++ >= MOST_LEAVING) continue;
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("d", curve(from, to, left));
        path.setAttribute("class", up.has(id) ? "up" : "down");
        paths.push(path);
      }
    }
    this.element.style.left = `${left}px`;
    this.element.setAttribute("width", width);
    this.element.setAttribute("height", height);
    this.element.classList.toggle("many", paths.length > MANY);
    this.element.replaceChildren(...paths);
  }
}

function curve(from, to, left) {
  if (from.top === to.top) {
    if (to.left - from.right < 14) return `M${from.end - left} ${(from.top + from.bottom) / 2}H${to.left - left}`;
    const [x1, x2, low] = [from.right - 10 - left, to.left + 10 - left, from.bottom + 16]; // under those between
    return `M${x1} ${from.bottom}C${x1} ${low} ${x2} ${low} ${x2} ${from.bottom}`;
  }
  const falls = from.top < to.top;
  const tip = (box) => box.left + Math.min(TIP, (box.right - box.left) / 2) - left;
  const [x1, x2] = [tip(from), tip(to)];
  const [y1, y2] = falls ? [from.bottom, to.top] : [from.top, to.bottom];
  const bend = (y2 - y1) * 0.55;
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}
