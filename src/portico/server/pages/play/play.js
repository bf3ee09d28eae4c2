// The playground: a conversation with any API of the server, the bytes as they come, and the trace of every answer. An
// event on the wire and its artifacts point at each other: choose one, and see the other.

import { APIS, curlOf, requestOf } from "../apis/all.js";
import { emptyAnswer } from "../apis/answer.js";
import { ask } from "../apis/asking.js";
import { textsOf } from "../apis/embeddings.js";
import { FieldError, number, object } from "../apis/fields.js";
import { get, HERE, NoKeyError } from "../common/api.js";
import { follow, paced } from "../common/dom.js";
import { TraceView } from "../trace/view.js";
import { Attaching } from "./attaching.js";
import { Conversation } from "./conversation.js";
import { begin, fieldOf, fill, form, offerModels, sees } from "./form.js";
import { opened } from "./from_trace.js";
import { Talks } from "./talks.js";
import { Turns } from "./turns.js";
import { WireLog } from "./wire_log.js";

const $ = (id) => document.getElementById(id);
const MOST_ROUNDS = 8; // of tools that a mock runs

let talk = new Conversation();
const under = new Set(); // AbortControllers of requests under way
const view = new TraceView({ compact: true, onartifact: markEvents });
$("trace").append(view.element);
const log = new WireLog($("raw").firstElementChild, $("received"), lookUp);
const drawLog = paced(() => {
  log.step();
  if (log.behind) drawLog();
});
const attaching = new Attaching(sees, refuse);
const turns = new Turns($("turns").firstElementChild, {
  again: (node) => answer(node.parent),
  edit: (node, text) => say(node.parent, text, node.files),
  choose: (node) => (talk.choose(node.id), turns.draw(talk), talks.keep()),
  results: (node, texts) => giveResults(node, texts),
  look: (node) => (log.clear(), trace(node.trace)),
  field: (error) => $(fieldOf(error)),
});
const talks = new Talks(
  () => talk,
  (wanted) => {
    stop();
    talk = wanted;
    turns.clear();
    turns.draw(talk);
  },
);

// -- sending --------------------------------------------------------------------------------------------------------------

const end = () => talk.path().at(-1)?.id ?? 0;

function say(parent, text, files) {
  if (!text.trim() && !files?.length) return refuse(new FieldError("message", "Write a message first."));
  try {
    requestOf(form(), [{ role: "user", text, files }]); // what the form cannot send is told before anything is said
  } catch (error) {
    return refuse(error);
  }
  const { id } = talk.add(parent, { role: "user", text, files });
  $("message").value = "";
  attaching.set([]);
  return answer(id);
}

/** Answers behind a turn: of the model, and of a second one where that is wanted. */
async function answer(parent, round = 0) {
  const wanted = form();
  const models = [wanted.model, wanted.beside].filter((model, i) => model || i === 0);
  let requests;
  try {
    requests = models.map((model) => requestOf(wanted, talk.turns(parent), model));
  } catch (error) {
    return refuse(error);
  }
  refuse(null);
  const many = models.length > 1 || (number(wanted, "n") ?? 1) > 1;
  const group = many ? crypto.randomUUID() : undefined;
  const done = await Promise.all(models.map((model, i) => run(parent, wanted, model, requests[i], group, i === 0)));
  const [node] = done[0];
  if (!many && node?.mocked && round < MOST_ROUNDS && end() === node.id) giveResults(node, node.mocked, round + 1);
}

/** One request, and its answers as turns behind `parent`; `main` is the one whose bytes and trace are shown. */
async function run(parent, wanted, model, request, group, main) {
  const here = talk;
  const about = { role: "assistant", api: wanted.api, model, group, running: true };
  const nodes = [here.add(parent, { ...emptyAnswer(), ...about })];
  if (!main) here.choose(here.children(parent).find((one) => one.group === group).id);
  const control = new AbortController();
  under.add(control);
  busy();
  if (main) log.clear();
  turns.draw(here);
  $("turns").scrollTop = $("turns").scrollHeight;
  if (innerWidth < 900) $("answer-region").scrollIntoView();
  const began = performance.now();
  const passed = () => (performance.now() - began) / 1000;
  let first;
  let told = {};
  const on = {
    head(response) {
      told = { trace: response.headers.get("x-portico-trace-id"), warning: response.headers.get("x-portico-warning") };
      if (main) trace(told.trace);
    },
    bytes(text, whole) {
      first ??= passed();
      if (!main) return;
      log.add(text, whole);
      drawLog();
    },
    change() {
      nodes.forEach((node, i) => {
        if (node.id) return turns.grown(node);
        nodes[i] = here.add(parent, { ...node, ...about }); // another choice has begun
        here.choose(nodes[0].id);
        turns.draw(here);
      });
    },
  };
  let failed = null;
  let stopped = false;
  try {
    await ask(wanted.api, request, nodes, on, control.signal);
  } catch (error) {
    stopped = control.signal.aborted;
    const words = error instanceof NoKeyError ? error.message : `The connection failed: ${error.message}`;
    if (!stopped) failed = { message: words };
  }
  for (const node of nodes.filter(Boolean)) {
    Object.assign(node, told, { running: false, seconds: passed(), first, stopped });
    node.error ??= failed;
    if (node.vectors) node.texts = textsOf(here.path(parent).findLast((turn) => turn.role === "user").text);
    if (node.calls.length && !node.error && !stopped) Object.assign(node, results(wanted, node));
    if (node.error) invalid(fieldOf(node.error));
    await turns.ended(node);
  }
  under.delete(control);
  busy();
  $("outcome").textContent = stopped ? "stopped" : nodes[0].error ? "failed" : (nodes[0].finish ?? "done");
  if (talk === here) {
    turns.draw(here);
    talks.keep();
  }
  return nodes;
}

/** What tools are to answer: `awaits` is what the fields for results begin with, `mocked` the results where all are known. */
function results(wanted, node) {
  let mocks = {};
  try {
    mocks = object(wanted, "mocks", "The list of results");
  } catch {
    invalid("mocks");
  }
  const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const awaits = Object.fromEntries(Object.entries(mocks).map(([name, value]) => [name, textOf(value)]));
  const known = node.calls.every((call) => call.name in awaits);
  return { awaits, mocked: known ? node.calls.map((call) => awaits[call.name]) : null };
}

function giveResults(node, texts, round = 0) {
  node.awaits = null;
  turns.ended(node);
  let last = node.id;
  node.calls.forEach((call, i) => {
    last = talk.add(last, { role: "tool", call: call.id, name: call.name, text: texts[i] }).id;
  });
  answer(last, round);
}

function stop() {
  for (const control of under) control.abort();
}

function busy() {
  $("send").disabled = under.size > 0;
  $("stop").disabled = under.size === 0;
  if (under.size) $("outcome").textContent = "waiting";
}

function invalid(field) {
  if (field) $(field)?.setAttribute("aria-invalid", "true");
}

/** Say what is wrong with the form; null takes it back. */
function refuse(error) {
  $("problem").hidden = error === null;
  if (error === null)
    return document.querySelectorAll("[aria-invalid]").forEach((one) => one.removeAttribute("aria-invalid"));
  $("problem").textContent = error.message;
  if (error.field) {
    invalid(error.field);
    $(error.field).closest("details")?.setAttribute("open", "");
    $(error.field).focus();
  }
}

// -- the trace ------------------------------------------------------------------------------------------------------------

function trace(id) {
  view.close();
  $("traced").hidden = Boolean(id);
  if (id) view.open(id);
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

/** `#from=ID`: the conversation that a trace recorded. */
async function openTrace() {
  const id = /^#from=([\w-]+)$/.exec(location.hash)?.[1];
  if (!id) return;
  history.replaceState(null, "", location.pathname);
  try {
    const { trace: head, artifacts } = await get(`/inspect/traces/${encodeURIComponent(id)}`);
    const found = opened(head.path, artifacts.find((one) => one.kind === "http_request")?.data.body);
    talk = found.conversation;
    fill(found.form);
    const last = talk.path().at(-1);
    $("message").value = last?.role === "user" ? last.text : "";
    attaching.set(last?.files ?? []);
    if (last?.role === "user") talk.nodes.get(last.parent).chosen = null;
    turns.clear();
    turns.draw(talk);
  } catch (error) {
    $("problem").hidden = false;
    $("problem").textContent = `The trace cannot be opened: ${error.message}`;
  }
}

// -- hands ----------------------------------------------------------------------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("send").disabled) return;
  const last = talk.path().at(-1);
  const { files } = attaching;
  if (!$("message").value.trim() && !files.length && last && last.role !== "assistant") answer(last.id);
  else say(end(), $("message").value, files.length ? files : undefined);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", stop);
$("curl").addEventListener("click", async () => {
  const text = $("message").value;
  try {
    const { files } = attaching;
    const said = [...talk.turns(end()), ...(text.trim() || files.length ? [{ role: "user", text, files }] : [])];
    await navigator.clipboard.writeText(curlOf(HERE, requestOf(form(), said)));
    $("curl").textContent = "Copied";
    setTimeout(() => ($("curl").textContent = "Copy as curl"), 1500);
  } catch (error) {
    refuse(error);
  }
});

const offerFiles = () => attaching.offer(APIS[form().api].lacks.includes("files"));
$("form").addEventListener("input", offerFiles);
follow($("turns"));
follow($("raw"));
begin();
talks.draw();
openTrace().then(offerModels).catch(refuse).then(offerFiles);
