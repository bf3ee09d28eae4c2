// The inspector: the list of requests on the left, live, and one request on the right.
// The address's hash says which trace and artifact are shown (#tr_…/17), or which two are compared (#tr_…..tr_…), so all
// can be linked to.

import { get, HERE, NoKeyError, open, values } from "../common/api.js";
import { clock, count, duration, h, oncePerFrame, shortened } from "../common/dom.js";
import { ChoiceList } from "../common/list.js";
import { STATES, TraceView } from "../trace/view.js";
import { chainList } from "./chain.js";
import { compared } from "./compare.js";

const $ = (id) => document.getElementById(id);
const MOST = 500; // requests in the list; the server keeps fewer
const heads = new Map(); // id -> head, as last told
const list = new ChoiceList($("requests"), fill, go);
const filter = $("filter");
let shown = null;
let comparing = null; // the first of two, until the other is chosen

const view = new TraceView({
  onartifact: (id) => history.replaceState(null, "", `#${shown}/${id}`),
  actions: (head) => h("button", { type: "button", onclick: () => compare(head.id) }, "Compare"),
});
$("trace").append(view.element);

// -- the list ---------------------------------------------------------------------------------------------------------------

const draw = oncePerFrame(() => {
  const all = [...heads.values()].sort((a, b) => b.began - a.began || (a.id < b.id ? 1 : -1));
  for (const head of all.splice(MOST)) heads.delete(head.id);
  const wanted = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = all.filter((head) => wanted.every((word) => searchable(head).includes(word)));
  list.draw(fitting, shown);
  $("count").textContent = wanted.length ? `${fitting.length} of ${all.length}` : String(all.length);
  $("empty").hidden = all.length > 0;
  $("none").hidden = !all.length || fitting.length > 0;
  if (shown === null && all.length && !location.hash) choose(all[0].id);
  drawChain();
});

function drawChain() {
  const found = chainList(heads.values(), heads.get(shown), go);
  $("chain").hidden = !found;
  $("chain").replaceChildren(...(found ? [found] : []));
}

function searchable(head) {
  return [
    head.id,
    head.request_id,
    head.method,
    head.path,
    head.asked,
    head.model,
    head.state,
    STATES[head.state],
    head.status,
    head.finish,
    head.error?.layer,
    head.error?.message,
    head.response,
    head.previous,
    head.conversation,
  ]
    .join(" ")
    .toLowerCase();
}

function fill(row, head) {
  const tokens = [head.prompt_tokens, head.completion_tokens].some((n) => n !== null && n !== undefined)
    ? `${head.prompt_tokens ?? "–"} → ${head.completion_tokens ?? "…"}`
    : "";
  const tools = head.tools ? ` ${count(head.tools, "tool")}` : "";
  row.className = head.state;
  const parts = [
    h("span", { class: "state", "aria-hidden": "true" }),
    h("span", { class: "path", title: head.asked ?? null }, head.asked ?? head.path),
    h("span", { class: "status" }, head.status >= 400 ? `${head.status} refused` : (STATES[head.state] ?? head.state)),
    h("span", { class: "second" }, clock(head.began), " ", h("b", {}, shortened(head.model ?? "no model", 22)), tools),
    head.asked && h("span", { class: "second" }, head.path),
    head.error && h("span", { class: "said" }, head.error.message),
    h("span", { class: "duration", title: "duration" }, head.seconds === null ? "" : duration(head.seconds)),
    h(
      "span",
      { class: "figures" },
      tokens && h("span", { title: "tokens: prompt → completion" }, tokens),
      head.first_token !== null &&
        h("span", { title: "time to first token" }, `first after ${duration(head.first_token)}`),
    ),
  ];
  row.replaceChildren(...parts.filter(Boolean));
}

function choose(id, artifact = null) {
  shown = id;
  list.mark(id);
  $("welcome").hidden = true;
  $("compared").hidden = true;
  $("trace").hidden = false;
  document.title = `${id} · Portico inspector`;
  view.open(id, artifact);
  drawChain();
}

function go(id) {
  if (comparing !== null && comparing !== id) {
    location.hash = `#${comparing}..${id}`;
    return compare(null);
  }
  history.pushState(null, "", `#${id}`);
  choose(id);
}

/** Wait for the other request to be chosen; null: no longer. */
function compare(id) {
  comparing = id;
  $("comparing").hidden = id === null;
}

async function showBoth(ids) {
  const [first, second] = ids;
  shown = null;
  list.mark(null);
  view.close();
  for (const hidden of ["welcome", "trace", "chain", "compared"]) $(hidden).hidden = true;
  document.title = `${first} and ${second} · Portico inspector`;
  let nodes;
  try {
    nodes = await compared(ids, go);
  } catch (error) {
    nodes = [h("p", { class: "refusal", role: "alert" }, `They cannot be compared: ${error.message}`)];
  }
  if (!location.hash.endsWith(`${first}..${second}`)) return; // the reader has gone on
  $("compared").replaceChildren(...nodes);
  $("compared").hidden = false;
}

function follow() {
  const both = /^#([\w-]+)\.\.([\w-]+)$/.exec(location.hash);
  if (both) return showBoth(both.slice(1));
  const [, id, artifact] = /^#([\w-]+)(?:\/(\d+))?$/.exec(location.hash) ?? [];
  if (!id) return;
  if (id === shown && artifact !== undefined && view.trace?.get(Number(artifact))) view.select(Number(artifact));
  else if (id !== shown || artifact === undefined) choose(id, artifact === undefined ? null : Number(artifact));
}

filter.addEventListener("input", draw);
filter.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  list.focus();
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
  filter.focus();
  event.preventDefault();
});
$("no-comparing").addEventListener("click", () => compare(null));
addEventListener("hashchange", follow);
addEventListener("popstate", follow);

// -- live -------------------------------------------------------------------------------------------------------------------

function link(state) {
  $("live").className = state;
  $("live").textContent = { live: "live", lost: "reconnecting", nokey: "no key" }[state];
}

/** Changes are listened to first, then the list as it is, so that none falls between; when the stream breaks, again. */
async function watch() {
  for (let wait = 500; ; wait = Math.min(10_000, wait * 2)) {
    try {
      const changes = await open("/inspect/live");
      const { traces } = await get("/inspect/traces");
      heads.clear();
      for (const head of traces) heads.set(head.id, head);
      draw();
      link("live");
      for await (const { trace } of values(changes)) {
        wait = 500;
        if (!trace) continue;
        heads.set(trace.id, trace);
        draw();
      }
    } catch (error) {
      if (error instanceof NoKeyError) return link("nokey");
    }
    link("lost");
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

$("example").textContent =
  `curl ${HERE}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n  -d '{"messages": [{"role": "user", "content": "Hello!"}], "stream": true}'`;
follow();
watch();
