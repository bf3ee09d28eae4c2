// The batches of a key: the list on the left, one of them on the right. The address's hash says which, so it can be
// linked to. The server is asked every two seconds while something runs and somebody looks, and else seldom or not at all.

import { get, HERE, NoKeyError } from "../common/api.js";
import { clock, count, h, shortened } from "../common/dom.js";
import { ChoiceList } from "../common/list.js";
import { BatchView } from "./batch.js";
import { bar, STATES } from "./batch_parts.js";
import { doneOf, Pace, perMinute } from "./pace.js";

const $ = (id) => document.getElementById(id);
const OFTEN = 2000; // milliseconds between two questions while something runs
const SELDOM = 10_000;
const PAGE = 25; // batches that are shown more of at a time
const MOST = 1000; // that the server tells
const paces = new Map(); // id -> how fast it goes
const list = new ChoiceList($("batches"), fill, go);
const view = new BatchView($("batch"), () => ask());
let heads = []; // as last told
let shown = null;
let limit = PAGE;
let waiting = null; // the timer of the next question
let asking = false;

// -- the list ---------------------------------------------------------------------------------------------------------

function fill(row, head) {
  const state = STATES[head.status];
  const done = doneOf(head);
  const failed = head.errored ? `, ${head.errored.toLocaleString("en")} failed` : "";
  row.className = state.mark;
  const parts = [
    h("span", { class: "state", "aria-hidden": "true" }),
    h("span", { class: "path" }, head.endpoint),
    h("span", { class: "status" }, state.word(head)),
    h("span", { class: "second" }, clock(head.created_at), " ", h("b", {}, shortened(head.model ?? head.id, 28))),
    head.total > 0 && h("span", { class: "progress", "aria-hidden": "true" }, bar(head)),
    h(
      "span",
      { class: "figures" },
      h("span", {}, head.total > 0 && `${done.toLocaleString("en")} of ${count(head.total, "line")}${failed}`),
      state.runs && head.began_at !== null && h("span", {}, `${perMinute(paces.get(head.id)?.current ?? null)} / min`),
    ),
  ];
  row.replaceChildren(...parts.filter(Boolean));
}

function choose(id) {
  shown = id;
  list.mark(id);
  document.title = `${id} · Portico batches`;
  $("empty").hidden = true;
  view.open(id);
  draw();
}

function go(id) {
  history.pushState(null, "", `#${id}`);
  choose(id);
}

function follow() {
  const id = location.hash.slice(1);
  if (id && id !== shown) choose(id);
}

function draw() {
  list.draw(heads, shown);
  const head = heads.find((one) => one.id === shown);
  if (head) view.show(head, paces.get(shown));
}

// -- what there is instead of batches ---------------------------------------------------------------------------------

function instead(title, ...words) {
  $("empty").replaceChildren(h("h2", {}, title), ...words);
  $("empty").hidden = false;
  $("batch").hidden = true;
}

const EXAMPLE = `printf '%s\\n' '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hello!"}]}}' > lines.jsonl
portico batch submit lines.jsonl --url ${HERE}`;

function noStore(why) {
  $("count").textContent = "0";
  link("");
  instead(
    "This server keeps no batches",
    h("p", {}, why),
    h("pre", { class: "code", tabindex: "0" }, "portico serve --store portico.db"),
  );
}

function none() {
  instead(
    "There is no batch yet",
    h("p", {}, "Send many requests in one file, and see here how far they are:"),
    h("pre", { class: "code", tabindex: "0" }, EXAMPLE),
    h("p", {}, "Batches and message batches of both APIs are listed, those of your key alone."),
  );
}

// -- live -------------------------------------------------------------------------------------------------------------

function link(state) {
  $("live").className = state;
  $("live").textContent = { live: "live", lost: "reconnecting", nokey: "no key", "": "" }[state];
}

function told({ batches, has_more: more, now }) {
  const before = new Map(heads.map((head) => [head.id, head]));
  heads = batches.map((head) => {
    if (STATES[head.status].runs) {
      if (!paces.has(head.id)) paces.set(head.id, new Pace());
      if (head.began_at !== null) paces.get(head.id).see(now, head);
      return head;
    }
    const old = before.get(head.id);
    return JSON.stringify(old) === JSON.stringify(head) ? old : head; // and its row stays as it is
  });
  view.now = now;
  $("count").textContent = more ? `the newest ${batches.length}` : String(batches.length);
  $("more").hidden = !more || limit >= MOST;
  if (shown === null && batches.length) choose(batches[0].id);
  else if (shown === null && $("empty").hidden) none();
  draw();
  if (shown !== null && !batches.some((one) => one.id === shown)) view.refresh();
}

async function ask() {
  clearTimeout(waiting);
  if (asking || document.hidden) return;
  asking = true;
  let wait = SELDOM;
  try {
    const found = await get(`/batches/jobs?limit=${limit}`);
    if (found.batches === null) return noStore(found.why);
    told(found);
    link("live");
    if (found.batches.some((head) => STATES[head.status].runs)) wait = OFTEN;
  } catch (error) {
    if (error instanceof NoKeyError) return link("nokey");
    link("lost");
    wait = OFTEN;
  } finally {
    asking = false;
  }
  waiting = setTimeout(ask, wait);
}

$("more").addEventListener("click", () => {
  limit = Math.min(MOST, limit + PAGE);
  ask();
});
document.addEventListener("visibilitychange", ask);
addEventListener("hashchange", follow);
addEventListener("popstate", follow);
follow();
ask();
