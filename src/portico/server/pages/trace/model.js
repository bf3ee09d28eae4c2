// One trace as a graph: artifacts, what each was made from, and what follows from that. No DOM here.
//
// An artifact points to its parents (`of`); children are kept beside, so that both directions are one walk. An artifact
// that comes again under the same id replaces the earlier one: that is how what was open gets its end.

import { duration, size, visible } from "../common/dom.js";

export const LANES = [
  { name: "request", box: "protocols", says: "what the client asked, and whether it may" },
  { name: "prompt", box: "prompting", says: "messages become tokens" },
  { name: "tokens", box: "engine", says: "what the model said, as token ids" },
  { name: "text", box: "decoding", says: "tokens become text" },
  { name: "events", box: "parsing", says: "text becomes reasoning, content, calls" },
  { name: "wire", box: "protocols", says: "events become bytes" },
];

/** When an artifact was complete, in seconds; while it is open, when it began. */
export const ended = (artifact) => artifact.at + (artifact.took ?? 0);

export class Trace {
  constructor(head = null) {
    this.head = head;
    this.artifacts = []; // in the order they were made
    this.pieces = new Map(); // token id -> its text, as far as this trace shows it
    this._byId = new Map();
    this._places = new Map(); // id -> place in the list
    this._children = new Map();
  }

  get(id) {
    return this._byId.get(id);
  }

  put(artifact) {
    const before = this._byId.get(artifact.id);
    if (before) {
      for (const parent of before.of) this._children.get(parent)?.delete(artifact.id);
      this.artifacts[this._places.get(artifact.id)] = artifact;
    } else {
      this._places.set(artifact.id, this.artifacts.length);
      this.artifacts.push(artifact);
    }
    this._byId.set(artifact.id, artifact);
    for (const parent of artifact.of) {
      if (!this._children.has(parent)) this._children.set(parent, new Set());
      this._children.get(parent).add(artifact.id);
    }
    const { ids, pieces } = artifact.data;
    if (Array.isArray(ids) && Array.isArray(pieces)) ids.forEach((id, i) => this.pieces.set(id, pieces[i]));
  }

  parents(id) {
    return (this._byId.get(id)?.of ?? []).filter((parent) => this._byId.has(parent));
  }

  children(id) {
    return [...(this._children.get(id) ?? [])];
  }

  /** All that this was made from, directly or not; itself left out. */
  ancestors(id) {
    return this._reach(id, (one) => this.parents(one));
  }

  /** All that was made from this, directly or not; itself left out. */
  descendants(id) {
    return this._reach(id, (one) => this._children.get(one) ?? []);
  }

  _reach(id, next) {
    const found = new Set();
    const open = [id];
    while (open.length) {
      for (const one of next(open.pop())) {
        if (found.has(one)) continue;
        found.add(one);
        open.push(one);
      }
    }
    found.delete(id);
    return found;
  }

  first(kind) {
    return this.artifacts.find((artifact) => artifact.kind === kind);
  }

  /** The engine steps that this artifact came out of, oldest first. */
  steps(id) {
    const all = [...this.ancestors(id), id].map((one) => this.get(one));
    return all.filter((artifact) => artifact.kind === "step").sort((a, b) => a.id - b.id);
  }

  /** The last moment anything is known of, in seconds after the beginning. */
  get length() {
    return this.artifacts.reduce((latest, artifact) => Math.max(latest, ended(artifact)), this.head?.seconds ?? 0);
  }

  /** The error that ended it: the head's, or what was recorded. */
  get error() {
    return this.head?.error ?? this.first("error")?.data ?? null;
  }
}

const PREPARING = {
  http_request: "read the request",
  validated: "validate it",
  prompt: "render the template",
  prompt_tokens: "tokenize",
  constraint: "compile the grammar",
  submitted: "hand to the engine",
};

/**
 * What the first byte of the answer waited for, stage after stage: `{name, by, from, to, id, note}`. Each stage lasts
 * from the end of the one before to its own end, so the stages add up to the whole; `to` is null while it is waiting.
 * `by` is held where the model had answered, but what it said might yet have turned out to be something else.
 */
export function firstToken(trace) {
  const stages = [];
  let passed = 0;
  const add = (name, artifact, to, note = "") => {
    const end = to === null ? null : Math.max(passed, to);
    stages.push({ name, by: artifact.by, from: passed, to: end, id: artifact.id, note });
    passed = end ?? passed;
  };
  const before = Object.keys(PREPARING)
    .map((kind) => trace.first(kind))
    .filter(Boolean);
  for (const artifact of before.sort((a, b) => ended(a) - ended(b) || a.id - b.id))
    add(PREPARING[artifact.kind], artifact, ended(artifact));
  const read = trace.head?.prompt_tokens ? `${trace.head.prompt_tokens} prompt tokens` : "";
  const vector = trace.first("embedding");
  if (vector) {
    add("the model", vector, ended(vector), read);
    const chunk = trace.first("chunk");
    if (chunk) add("write", chunk, ended(chunk));
    return stages;
  }
  const submitted = trace.first("submitted");
  if (!submitted) return stages;

  const step = trace.first("step");
  if (!step) {
    if (trace.head?.state === "open") add("the model", { by: "inference", id: submitted.id }, null, read);
    return stages;
  }
  add("the model", step, ended(step), read);
  const chunk = trace.artifacts.find((artifact) => artifact.kind === "chunk" && trace.steps(artifact.id).length);
  if (!chunk) return stages;
  const steps = trace.steps(chunk.id);
  const last = steps[steps.length - 1];
  if (last !== step && trace.head?.stream) {
    const held = trace.artifacts.find((artifact) => artifact.kind === "held" && ended(artifact) <= ended(chunk));
    add("held back", { by: "held", id: (held ?? last).id }, ended(last), held?.data.reason ?? "nothing to send yet");
  } else if (last !== step) {
    add("the rest of the answer", last, ended(last), "it goes out as one body");
  }
  add("decode, parse, write", chunk, ended(chunk));
  return stages;
}

// -- words for artifacts ------------------------------------------------------------------------------------------------

const NAMES = {
  http_request: "HTTP request",
  validated: "validated request",
  error: "error",
  prompt: "rendered prompt",
  medium: "medium",
  prompt_tokens: "prompt tokens",
  constraint: "grammar",
  submitted: "engine request",
  step: "engine step",
  embedding: "embedding",
  text: "text",
  held: "held back",
  event: "event",
  frame: "frame",
  chunk: "chunk",
  response: "response head",
};

export function nameOf(artifact) {
  if (artifact.kind === "frame" && !/^\d+ bytes$/.test(artifact.label)) return artifact.label; // the server says what it is for
  return artifact.kind === "event"
    ? (artifact.data.type ?? "event")
    : (NAMES[artifact.kind] ?? artifact.kind.replaceAll("_", " "));
}

/** What stands in an artifact's box: the thing itself where it is short, else its size. */
export function caption(artifact) {
  const { data, kind, label } = artifact;
  if (kind === "http_request") return data.method ?? label;
  if (kind === "validated") return "valid";
  if (kind === "prompt" && typeof data.text === "string") return `${[...data.text].length} chars`;
  if (kind === "prompt_tokens" && data.ids) return `${data.ids.length} tokens`;
  if (kind === "constraint") return "grammar";
  if (kind === "submitted") return "engine";
  if (kind === "response") return String(data.status ?? label);
  if (kind === "error") return `${data.status ?? ""} ${data.layer ?? "error"}`.trim();
  if (kind === "step" && data.pieces)
    return data.pieces.length ? visible(data.pieces.join("")) : `${data.finish_reason ?? "empty"}`;
  if (kind === "embedding" && data.vector) return `${data.vector.length} numbers`;
  if (kind === "text" && typeof data.text === "string") return visible(data.text);
  if (kind === "held") return data.reason ? data.reason : label;
  if (kind === "frame" || kind === "chunk")
    return /^\d+ bytes$/.test(label)
      ? label.replace("bytes", "B")
      : bytesOf(data) === null
        ? label
        : `${bytesOf(data)} B`;
  if (kind === "event") return eventCaption(data) ?? label;
  return label || nameOf(artifact);
}

/** How many bytes a frame or chunk has; null where that was not recorded. */
export function bytesOf(data) {
  if (typeof data.bytes === "string") return size(data.bytes);
  if (typeof data.base64 === "string") return Math.floor((data.base64.replace(/=+$/, "").length * 3) / 4);
  return null;
}

function eventCaption(data) {
  if (data.type === "CallStart") return `call ${data.name}`;
  if (data.type === "CallEnd") return "end of call";
  if (data.type === "Finish") return `finish: ${data.reason}`;
  const text = data.text ?? data.json_fragment;
  return typeof text === "string" ? visible(text) : null;
}

/** One artifact as one line of prose, for lists and for readers who hear the page. */
export function sentence(artifact) {
  const ids = artifact.kind === "step" && artifact.data.ids ? ` (${artifact.data.ids.join(", ")})` : "";
  const plain = ["validated", "constraint", "submitted"].includes(artifact.kind);
  return plain ? nameOf(artifact) : `${nameOf(artifact)} ${caption(artifact)}${ids}`;
}

/** When, how long, and by whom. */
export function timing(artifact) {
  const at = `at ${duration(artifact.at)}`;
  if (artifact.took === null) return `${at}, still open`;
  return artifact.took ? `${at}, took ${duration(artifact.took)}` : at;
}
