// Talking to the server: one place for the API key, one for server-sent events.
//
// A 401 asks for the key, keeps it for this tab (sessionStorage) and sends the request again. Streams are read with
// fetch, not EventSource, because EventSource cannot send the key.

import { h } from "./dom.js";

/** Where the server is, without a slash at the end: a proxy may serve it under a path. */
export const HERE = new URL("../..", import.meta.url).href.replace(/\/$/, "");

let key = sessionStorage.getItem("portico.key");
let asking = null; // the one dialog, shared by all requests that were refused meanwhile

export class NoKeyError extends Error {}

/** fetch a path of the server with the key; asks for it as long as the server refuses. Raises NoKeyError when the reader gives none. */
export async function call(path, options = {}) {
  for (;;) {
    const sent = key;
    const headers = { ...options.headers, ...(sent && { authorization: `Bearer ${sent}` }) };
    const response = await fetch(HERE + path, { ...options, headers });
    if (response.status !== 401) return response;
    if (sent === key) await (asking ??= ask(sent !== null).finally(() => (asking = null)));
  }
}

/** The JSON of a GET; raises as `open` does. */
export async function get(path) {
  return (await open(path)).json();
}

function ask(refused) {
  return new Promise((resolve, reject) => {
    const field = h("input", {
      type: "password",
      id: "key",
      autocomplete: "off",
      required: true,
      "aria-describedby": "key-why",
    });
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "key-title" }, "This server needs a key"),
      h(
        "p",
        { id: "key-why" },
        refused
          ? "That key was refused. Please try another."
          : "It is kept in this tab only, and sent to this server only.",
      ),
      h("label", { for: "key" }, "API key"),
      field,
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Not now"),
        h("button", { type: "submit", class: "primary" }, "Continue"),
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": "key-title", class: "card" }, form);
    form.addEventListener("submit", () => {
      key = field.value;
      sessionStorage.setItem("portico.key", key);
      resolve();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      reject(new NoKeyError("No API key was given.")); // without effect after the form was sent
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A streamed body, event by event, each as the text it came as, blank line included; what is left comes last. */
export async function* blocks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      let from = Math.max(0, held.length - 1); // what was searched is not searched again
      held += value;
      for (let end; (end = held.indexOf("\n\n", from)) >= 0; held = held.slice(end + 2), from = 0)
        yield held.slice(0, end + 2);
    }
    if (held) yield held;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The `data` of one event; null for a comment. */
export function dataOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.length ? lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n") : null;
}

/** An answer that has begun; read a stream of JSON values with `values`. Raises with the server's own words and its
 * `status`. */
export async function open(path, options) {
  const response = await call(path, options);
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw Object.assign(new Error(body.error?.message ?? `The server answered ${response.status}.`), {
    status: response.status,
  });
}

export async function* values(response) {
  for await (const block of blocks(response)) {
    const data = dataOf(block);
    if (data !== null) yield JSON.parse(data);
  }
}
