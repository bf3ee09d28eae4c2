// Where artifacts lie on the axis. Pure: traces in, numbers out, in CSS pixels.
//
// Two axes. In *order*, the trace is a score: it goes in beats, and one engine step with all that came of it is one beat,
// however long it took, so preparation (a millisecond) and generation (seconds) read equally well. Before the first step
// every artifact is a beat. In *time*, a pixel is a fixed number of seconds.
// Both give `places` (id -> {x, w, lane, row, solid}), the `width` of it all, and `ticks`. A lane may have two rows, the
// main one and a thin one: hold-backs lie under the text or events they delay, frames over the chunks they were sent in.
// Neighbours too narrow to be seen are merged into one, so five thousand stay light.

import { duration } from "../common/dom.js";
import { caption, ended } from "./model.js";

const CHARACTER = 6.7; // the width of one, in the boxes' font
const NARROWEST = 30;
const WIDEST = 136;
const GAP = 3; // between boxes of one beat
const BEAT_GAP = 7;
const TICK_EVERY = 88; // at least
const END = 60; // pixels kept free at the end of time, for the last captions
const UNSEEN = 3; // boxes under this width are merged
const HIGHEST = 8_000_000; // no wider than browsers can scroll

const widths = new WeakMap();

/** The width a box wants for its caption. */
function wanted(artifact) {
  if (!widths.has(artifact)) {
    const letters = [...caption(artifact).slice(0, 40)].length;
    widths.set(artifact, Math.min(WIDEST, Math.max(NARROWEST, letters * CHARACTER + 22)));
  }
  return widths.get(artifact);
}

export const MAIN = 0;
export const THIN = 1;
const rowOf = (artifact) => (artifact.kind === "held" || artifact.kind === "frame" ? THIN : MAIN);
const isHold = (artifact) => artifact.kind === "held";

export function inOrder(trace, zoom) {
  const beats = [];
  for (const artifact of trace.artifacts) {
    if (!beats.length || begins(artifact)) beats.push({ at: artifact.at, members: [] });
    beats.at(-1).members.push(artifact);
  }
  const places = new Map();
  let x = 0;
  for (const beat of beats) {
    const filled = {};
    for (const artifact of beat.members) {
      if (isHold(artifact)) continue;
      const row = rowOf(artifact);
      const from = filled[artifact.lane + row] ?? 0;
      const w = (wanted(artifact) - GAP) * zoom;
      places.set(artifact.id, { x: x + from, w, lane: artifact.lane, row, solid: w });
      filled[artifact.lane + row] = from + w + GAP * zoom;
    }
    beat.x = x;
    beat.w = Math.max(NARROWEST * zoom, ...Object.values(filled));
    x += beat.w + BEAT_GAP * zoom;
  }
  beats.forEach((beat, i) => {
    for (const artifact of beat.members.filter(isHold)) {
      const until = artifact.took === null ? beats.length - 1 : lastBegunBy(beats, ended(artifact), i);
      const w = Math.max(
        beat.w,
        beats[until].x - beat.x - GAP * zoom,
        artifact.took === null ? beats[until].x + beats[until].w - beat.x : 0,
      );
      places.set(artifact.id, { x: beat.x, w, lane: artifact.lane, row: THIN, solid: w });
    }
  });
  const ticks = [];
  for (const beat of beats) {
    if (!ticks.length || beat.x - ticks.at(-1).x >= TICK_EVERY) ticks.push({ x: beat.x, label: duration(beat.at) });
  }
  return { places, width: x, ticks };
}

/** A beat begins with each engine step, and before there is one, with each thing that was prepared. */
const begins = (artifact) => ["request", "prompt", "tokens"].includes(artifact.lane) && !isHold(artifact);

function lastBegunBy(beats, moment, from) {
  let low = from;
  for (let high = beats.length - 1; low < high; ) {
    const middle = Math.ceil((low + high) / 2);
    if (beats[middle].at <= moment + 1e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

export function inTime(trace, zoom, view) {
  const length = Math.max(trace.length, 1e-6);
  const width = Math.min(HIGHEST, view * zoom);
  const scale = (width - END) / length; // pixels per second
  const places = new Map();
  const last = {};
  for (const artifact of [...trace.artifacts].sort((a, b) => a.at - b.at || a.id - b.id)) {
    const x = artifact.at * scale;
    const took = artifact.took === null ? length - artifact.at : artifact.took;
    if (isHold(artifact)) {
      places.set(artifact.id, { x, w: Math.max(3, took * scale), lane: artifact.lane, row: THIN, solid: took * scale });
      continue;
    }
    const row = rowOf(artifact);
    const place = { x, w: wanted(artifact), lane: artifact.lane, row, solid: Math.max(3, took * scale) };
    const before = last[artifact.lane + row]; // a box may be as wide as its caption, up to where its neighbour begins
    if (before) {
      before.w = Math.max(0.01, Math.min(before.w, x - before.x - 1));
      before.solid = Math.min(before.solid, before.w);
    }
    place.w = Math.max(place.w, place.solid);
    places.set(artifact.id, place);
    last[artifact.lane + row] = place;
  }
  const every = niceStep(TICK_EVERY / scale);
  const ticks = [];
  const many = Math.min(4000, Math.floor((length + 40 / scale) / every));
  for (let i = 0; i <= many; i++) ticks.push({ x: i * every * scale, label: duration(i * every) });
  return { places, width, ticks };
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
export function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

/** The boxes to draw, lane by lane from left to right: `{ids, x, w, row, solid}`; more than one id is a merged run. */
export function boxes(trace, places) {
  const lanes = {};
  const sorted = trace.artifacts
    .map((artifact) => [artifact.id, places.get(artifact.id)])
    .sort((a, b) => a[1].x - b[1].x || a[0] - b[0]);
  for (const [id, place] of sorted) {
    const lane = (lanes[place.lane] ??= []);
    const before = lane.findLast((box) => box.row === place.row);
    const crowded =
      before &&
      place.w < UNSEEN &&
      (before.ids.length > 1
        ? place.x - before.x - before.w < UNSEEN && before.w < 64
        : before.w < UNSEEN && place.x - before.x < UNSEEN);
    if (crowded) {
      before.ids.push(id);
      before.w = before.solid = Math.max(UNSEEN, place.x + place.w - before.x);
    } else {
      lane.push({ ids: [id], x: place.x, w: place.w, row: place.row, solid: place.solid });
    }
  }
  return lanes;
}
