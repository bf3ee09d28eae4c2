// The playground: a form that is sent as either API's request; the answer as it is put together, the bytes as they come,
// and the trace of both. An event on the wire and its artifacts point at each other: choose one, and see the other.

import { blocks, call, dataOf, HERE, NoKeyError } from "../common/api.js";
import { count, duration, following, h, paced } from "../common/dom.js";
import { TraceView } from "../trace/view.js";
import { AnswerView } from "./answer_view.js";
import { Answer, curlOf, FieldError, requestOf } from "./chat.js";
import { fieldOf, form, offerModels, restore, save, turn } from "./form.js";
import { WireLog } from "./wire_log.js";

const $ = (id) => document.getElementById(id);
const view = new TraceView({ compact: true, onartifact: (id) => markEvents(id) });
$("trace").append(view.element);

// -- sending ----------------------------------------------------------------------------------------------------------------

let sending = null; // the AbortController of the request under way
let answer = new Answer();
let shown = null; // its AnswerView
const log = new WireLog($("raw"), $("received"), lookUp);

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
    await shown.end(answer);
  } catch (error) {
    if (sending.signal.aborted) $("outcome").textContent = "stopped";
    else refuse({ message: error instanceof NoKeyError ? error.message : `The connection failed: ${error.message}` });
  }
  $("send").disabled = false;
  $("stop").disabled = true;
  if (answer.content || answer.calls.length) offerToContinue();
}

async function readStream(api, response, began) {
  let first = true;
  for await (const block of blocks(response)) {
    if (first) $("outcome").textContent = `first event after ${duration((performance.now() - began) / 1000)}`;
    first = false;
    receive(block);
    const data = dataOf(block);
    if (data !== null && data !== "[DONE]") answer.feed(api, JSON.parse(data));
    shown.show(answer);
  }
}

async function readBody(api, response) {
  const text = await response.text();
  receive(text, true);
  const body = JSON.parse(text);
  if (response.ok) answer = Answer.whole(api, body);
  else answer.error = body.error ?? { message: text };
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
  shown = new AnswerView({ onframe: followAnswer });
  log.clear();
  view.close();
  $("answer").replaceChildren(shown.element);
  $("traced").hidden = true;
  for (const element of document.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

const followAnswer = following($("answer"));
const drawLog = paced(() => log.step());

/** What comes, as it came. */
function receive(text, whole = false) {
  log.add(text, whole);
  drawLog();
}

function refuse(error, field, status = null) {
  const control = field && $(field);
  if (control) control.setAttribute("aria-invalid", "true");
  $("outcome").textContent = status ? `status ${status}` : "not sent";
  $("answer").append(
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

function lookUp(event) {
  const chunk = chunks().find(({ from, to }) => from < event.to && event.from < to);
  if (chunk) view.select(chunk.id);
}

/** Mark the events that an artifact became. */
function markEvents(id) {
  const reached = view.trace.descendants(id).add(id);
  log.mark(chunks().filter((chunk) => reached.has(chunk.id)));
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
