// One request on its way: sent, and read into answers as it comes. No DOM.

import { blocks, call, dataOf } from "../common/api.js";
import { APIS } from "./all.js";
import { at } from "./answer.js";

/**
 * Ask, and fill `answers`, one for each choice. `on.head(response)` once it is answered, `on.bytes(text, whole)` for all
 * that comes, `on.change()` whenever the answers have grown. An error that the server tells is in the answers, beside what
 * came before it; raises what the connection raises.
 */
export async function ask(name, { path, headers, body }, answers, on, signal) {
  const api = APIS[name];
  const response = await call(path, {
    method: "POST",
    headers: { ...headers, "x-portico-trace": "1" },
    body: JSON.stringify(body),
    signal,
  });
  on.head(response);
  if ((response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
    for await (const block of blocks(response)) {
      on.bytes(block, false);
      const data = dataOf(block);
      if (data === null || data === "[DONE]") continue;
      const event = JSON.parse(data);
      if (event.error || event.type === "error") at(answers, 0).error = event.error ?? event;
      else api.feed(answers, event);
      on.change();
    }
    return;
  }
  const text = await response.text();
  on.bytes(text, true);
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    found = { error: { message: text || `The server answered ${response.status}.` } };
  }
  if (response.ok) api.whole(answers, found);
  else at(answers, 0).error = { ...(found.error ?? { message: text }), status: response.status };
  on.change();
}
