// The playground: a form that is sent as either API's request; the answer as it is put together, the bytes as they come,
// and the trace of both. An event on the wire and its artifacts point at each other: choose one, and see the other.

import { blocks, call, dataOf, HERE, NoKeyError } from "../common/api.js";
import { count, duration, following, h, oncePerFrame, size } from "../common/dom.js";
import { json, wire } from "../common/syntax.js";
import { TraceView } from "../trace/view.js";
import { Answer, curlOf, FieldError, requestOf } from "./chat.js";
import { fieldOf, form, offerModels, restore, save, turn } from "./form.js";

const $ = (id) => document.getElementById(id);
const view = new TraceView({ compact: true, onartifact: (id) => markEvents(id) });
$("trace").append(view.element);

// -- sending ----------------------------------------------------------------------------------------------------------------

let sending = null; // the AbortController of the request under way
let answer = new Answer();
let events = []; // {from, to, element}: what came, with its place in the body, in characters
let bytes = 0;

async function send() {
  clear();
  let request;
  const { api } = form();
  try {
    request = requestOf(form());
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    return refuse({ message: error.message }, error.field);
  }
  sending = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("outcome").textContent = "waiting";
  const began = performance.now();
  try {
    const headers = { ...request.headers, "x-portico-trace": "1" };
    const response = await call(request.path, {
      method: "POST",
      headers,
      body: JSON.stringify(request.body),
      signal: sending.signal,
    });
    trace(response.headers.get("x-portico-trace-id"));
    warn(response.headers.get("x-portico-warning"));
    const streamed = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
    if (streamed) await readStream(api, response, began);
    else await readBody(api, response);
    if (answer.error) refuse(answer.error, fieldOf(answer.error), response.ok ? null : response.status);
    else $("outcome").textContent = outcome(began);
  } catch (error) {
    if (sending.signal.aborted) $("outcome").textContent = "stopped";
    else refuse({ message: error instanceof NoKeyError ? error.message : `The connection failed: ${error.message}` });
  }
  $("send").disabled = false;
  $("stop").disabled = true;
  if (answer.content || answer.calls.length) offerToContinue();
}

async function readStream(api, response, began) {
  for await (const block of blocks(response)) {
    if (events.length === 0)
      $("outcome").textContent = `first event after ${duration((performance.now() - began) / 1000)}`;
    receive(block);
    const data = dataOf(block);
    if (data !== null && data !== "[DONE]") answer.feed(api, JSON.parse(data));
    showAnswer();
  }
}

async function readBody(api, response) {
  const text = await response.text();
  receive(text);
  const body = JSON.parse(text);
  if (response.ok) answer = Answer.whole(api, body);
  else answer.error = body.error ?? { message: text };
  showAnswer();
}

function outcome(began) {
  const { finish, usage } = answer;
  return [
    finish && `finish: ${finish}`,
    usage && `${usage.prompt} → ${count(usage.completion, "token")}`,
    duration((performance.now() - began) / 1000),
  ]
    .filter(Boolean)
    .join(", ");
}

// -- showing ----------------------------------------------------------------------------------------------------------------

function clear() {
  answer = new Answer();
  events = [];
  bytes = 0;
  view.close();
  $("raw").replaceChildren();
  $("received").textContent = "";
  $("answer").replaceChildren();
  $("traced").hidden = true;
  for (const element of document.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

const followAnswer = following($("answer"));
const followRaw = following($("raw"));

const showAnswer = oncePerFrame(() => {
  const { reasoning, content, calls, error } = answer;
  if (error) return;
  const body = $("answer");
  const folded = body.querySelector("details")?.open === false;
  body.replaceChildren(
    ...[
      reasoning &&
        h("details", { class: "reasoning", open: !folded }, h("summary", {}, "Reasoning"), h("p", {}, reasoning)),
      content && h("p", { class: "content" }, content),
      ...calls
        .filter(Boolean)
        .map((one) =>
          h(
            "div",
            { class: "call" },
            h("h3", {}, h("span", {}, "calls "), one.name),
            h("small", {}, one.id),
            h("pre", { class: "code" }, json(pretty(one.arguments))),
          ),
        ),
      body.querySelector(".continue"),
    ].filter(Boolean),
  );
  followAnswer();
});

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // not complete yet
  }
}

function receive(text) {
  const from = events.at(-1)?.to ?? 0;
  const event = { from, to: from + text.length };
  const isBody = dataOf(text) === null && !text.startsWith(":"); // not an event but a whole answer: shown indented
  event.element = h(
    "li",
    {},
    h("button", { type: "button", onclick: () => lookUp(event) }, isBody ? json(pretty(text)) : wire(text)),
  );
  events.push(event);
  $("raw").append(event.element);
  followRaw();
  bytes += size(text);
  $("received").textContent = `${count(events.length, "event")}, ${count(bytes, "byte")}`;
}

function refuse(error, field, status = null) {
  const control = field && $(field);
  if (control) control.setAttribute("aria-invalid", "true");
  $("outcome").textContent = status ? `status ${status}` : "not sent";
  $("answer").replaceChildren(
    h(
      "div",
      { class: "refusal", role: "alert" },
      h("strong", {}, status ? `Refused with ${status}` : "This cannot be"),
      h("p", {}, error.message ?? ""),
      h(
        "p",
        { class: "where" },
        [error.param && `field ${error.param}`, error.code && `code ${error.code}`, error.type]
          .filter(Boolean)
          .join(", "),
      ),
      control ? h("button", { type: "button", onclick: () => control.focus() }, "Go to the field") : null,
    ),
  );
}

function warn(text) {
  if (text) $("answer").before(h("p", { class: "warning", role: "status" }, text));
}

function offerToContinue() {
  showAnswer();
  requestAnimationFrame(() => {
    $("answer").querySelector(".continue")?.remove();
    if (!answer.content) return;
    $("answer").append(
      h(
        "button",
        {
          type: "button",
          class: "continue",
          onclick: () => {
            turn("assistant", answer.content);
            turn("user").focus();
            save();
          },
        },
        "Continue from here",
      ),
    );
    followAnswer();
  });
}

// -- the trace --------------------------------------------------------------------------------------------------------------

function trace(id) {
  $("traced").hidden = id !== null;
  if (id !== null) view.open(id);
  else
    $("traced").textContent =
      "No trace came with this answer: start the server with --inspect, or allow tracing by header.";
}

/** The chunks of the trace with the places of their text in the body. */
function chunks() {
  let from = 0;
  const all = (view.trace?.artifacts ?? []).filter(
    (artifact) => artifact.kind === "chunk" && typeof artifact.data.bytes === "string",
  );
  return all.map((artifact) => ({ id: artifact.id, from, to: (from += artifact.data.bytes.length) }));
}

const meet = (a, b) => a.from < b.to && b.from < a.to;

function lookUp(event) {
  const chunk = chunks().find((one) => meet(one, event));
  if (chunk) view.select(chunk.id);
}

/** Mark the events that an artifact became. */
function markEvents(id) {
  const reached = view.trace.descendants(id).add(id);
  const marked = chunks().filter((chunk) => reached.has(chunk.id));
  let first = null;
  for (const event of events) {
    const hit = marked.some((chunk) => meet(chunk, event));
    event.element.classList.toggle("marked", hit);
    first ??= hit ? event.element : null;
  }
  first?.scrollIntoView({ block: "nearest" });
}

// -- hands --------------------------------------------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("send").disabled) send();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("stop").addEventListener("click", () => sending?.abort());
$("curl").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(curlOf(HERE, requestOf(form())));
    $("curl").textContent = "Copied";
    setTimeout(() => ($("curl").textContent = "Copy as curl"), 1500);
  } catch (error) {
    refuse({ message: error.message }, error.field);
  }
});

restore();
offerModels().catch((error) => refuse({ message: error.message }));
