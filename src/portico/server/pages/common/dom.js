// Elements, and how figures are spelled. Recorded text is hostile until proven otherwise, so it only ever becomes text
// nodes and plain attributes here: markup is parsed in one place, `play/markdown.js`.

/** An element: `on…` properties are listeners, `data` becomes data attributes, null and false children are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Seconds as people say them: 140 µs, 4.2 ms, 212 ms, 1.23 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size === 0) return "0";
  if (size < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
  if (size < 0.09995) return `${(seconds * 1e3).toFixed(size < 0.009995 ? 2 : 1)} ms`;
  if (size < 0.9995) return `${Math.round(seconds * 1e3)} ms`;
  return `${seconds.toFixed(size < 9.995 ? 2 : 1)} s`;
}

/** Unix seconds as a time of day. */
export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Bytes of a text in UTF-8. */
export function size(text) {
  return new TextEncoder().encode(text).length;
}

/** White space made visible: what a token or a marker really holds. */
export function visible(text) {
  return text.replaceAll("\r", "␍").replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·");
}

export function shortened(text, most) {
  const letters = [...text.slice(0, most * 2 + 2)];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

/** Make `element`'s children those of `fresh`; what is the same already stays, with its layout and what is selected in it. */
export function renew(element, fresh) {
  let old = element.firstChild;
  for (const one of [...fresh.childNodes]) {
    const next = old?.nextSibling;
    if (!old) element.append(one);
    else if (!old.isEqualNode(one)) {
      if (old.nodeName === "#text" && one.nodeName === "#text") rewrite(old, one.data);
      else if (old.cloneNode().isEqualNode(one.cloneNode())) renew(old, one);
      else old.replaceWith(one);
    }
    old = next;
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

function rewrite(text, data) {
  if (data.startsWith(text.data)) text.appendData(data.slice(text.length));
  else text.data = data;
}

const waiting = new Set(); // for a frame

/**
 * Run `work` once per frame at most, however often it is asked for. A frame does one such work: where several wait they
 * take turns, so that what is costly for the browser (to lay out, to paint) does not come together.
 */
export function oncePerFrame(work) {
  return () => {
    if (waiting.size === 0) requestAnimationFrame(frame);
    waiting.add(work);
  };
}

function frame() {
  const [work] = waiting;
  waiting.delete(work);
  if (waiting.size > 0) requestAnimationFrame(frame);
  work();
}

/** As `oncePerFrame`, for work whose cost grows: it is done so seldom that it takes a tenth of the time at most. */
export function paced(work) {
  let asked = false;
  let notBefore = 0;
  const draw = oncePerFrame(() => {
    asked = false;
    const began = performance.now();
    work();
    const done = performance.now();
    notBefore = done + 9 * (done - began);
  });
  return () => {
    if (asked) return;
    asked = true;
    setTimeout(draw, Math.max(0, notBefore - performance.now()));
  };
}

/**
 * Keeps what scrolls at its end while its one child grows, unless the reader has scrolled up. That is seen after the
 * browser has laid out the frame, so that nothing is laid out just to be measured.
 */
export function follow(scroller) {
  let follows = true;
  let followed = 0;
  scroller.addEventListener("scroll", () => {
    if (scroller.scrollTop !== followed)
      follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
  });
  new ResizeObserver(() => {
    if (!follows) return;
    scroller.scrollTop = scroller.scrollHeight;
    followed = scroller.scrollTop;
  }).observe(scroller.firstElementChild);
}
