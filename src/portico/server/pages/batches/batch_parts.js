// The parts of a batch: how far it is and how fast it goes, why lines failed, its files, what is known of it. Each takes
// the batch as the server tells it and gives elements, or null where there is nothing to show.

import { HERE, open } from "../common/api.js";
import { count, h } from "../common/dom.js";
import { average, doneOf, estimated, perMinute, span } from "./pace.js";

// status -> the shape of its mark in the list, whether it goes on, and its word
const plain = (mark, word, runs = false) => ({ mark, runs, word: () => word });
export const STATES = {
  validating: plain("open", "reading", true),
  in_progress: { mark: "open", runs: true, word: (batch) => (batch.began_at === null ? "waiting" : "running") },
  finalizing: plain("open", "finalizing", true),
  cancelling: plain("open", "cancelling", true),
  completed: { mark: "ok", runs: false, word: (batch) => (batch.errored ? "done, with failures" : "done") },
  failed: plain("failed", "failed"),
  expired: plain("gone", "expired"),
  cancelled: plain("gone", "cancelled"),
};
const APIS = { openai: "OpenAI's batches", anthropic: "Anthropic's message batches" };
const FILES = { input: "Input file", output: "Output file", error: "Error file", results: "Results" };

/** The lines of a batch as parts of a bar, by how they came out. */
export function bar(batch) {
  const parts = { good: batch.succeeded, bad: batch.errored, left: batch.cancelled + batch.expired };
  return Object.entries(parts).map(([kind, lines]) => {
    const part = h("span", { class: kind });
    part.style.width = `${(100 * lines) / batch.total}%`;
    return part;
  });
}

export function progress(batch) {
  if (!batch.total) return null;
  const done = doneOf(batch);
  const [percent, of] = [
    Math.floor((100 * done) / batch.total),
    `${done.toLocaleString("en")} of ${count(batch.total, "line")}`,
  ];
  return [
    h(
      "div",
      {
        class: "bar",
        role: "progressbar",
        "aria-label": "Lines that are done",
        "aria-valuenow": String(percent),
        "aria-valuetext": of,
      },
      bar(batch),
    ),
    h("p", { class: "hint" }, `${of}, ${percent} %`),
  ];
}

export function figures(batch, now, pace) {
  const { runs } = STATES[batch.status];
  if (!runs && !batch.total) return null;
  const mean = average(batch, now);
  const end = runs ? estimated(batch, now, pace?.current || mean) : null;
  const lines = (number) => number.toLocaleString("en");
  const left = batch.cancelled + batch.expired;
  return h(
    "dl",
    { class: "figures" },
    figure("completed", lines(batch.succeeded), "good"),
    figure("failed", lines(batch.errored), batch.errored && "bad"),
    left > 0 && figure("not run", lines(left)),
    figure("total", lines(batch.total)),
    runs && figure("lines a minute, now", perMinute(pace?.current ?? null)),
    figure("lines a minute, on average", perMinute(mean)),
    end !== null && figure("will end about", when(end), null, `in ${span(end - now)}`),
    batch.ended_at !== null && batch.began_at !== null && figure("took", span(batch.ended_at - batch.began_at)),
  );
}

function figure(name, value, kind, more) {
  return h("div", {}, h("dt", {}, name), h("dd", { class: kind || null }, value, more && h("small", {}, ` ${more}`)));
}

export function problems(found) {
  if (!found.length) return null;
  return h(
    "div",
    { class: "refusal", role: "group", "aria-label": "What is wrong with the file" },
    h("strong", {}, "No line was run: the file is no list of requests"),
    h(
      "ul",
      {},
      found.map((one) => h("li", {}, one.line ? h("b", {}, `Line ${one.line}: `) : null, one.message)),
    ),
  );
}

export function failures(batch, examples) {
  const causes = Object.entries(batch.failures).sort((a, b) => b[1] - a[1]);
  if (!causes.length) return null;
  const of = new Map(examples.map((one) => [one.cause, one]));
  return [
    h("h3", { id: "failures-title" }, "Failures by kind"),
    h(
      "table",
      { "aria-labelledby": "failures-title" },
      h("thead", {}, h("tr", {}, ...["kind", "lines", "such as"].map((name) => h("th", { scope: "col" }, name)))),
      h(
        "tbody",
        {},
        causes.map(([cause, lines]) => {
          const one = of.get(cause);
          const share = h("span", { class: "share", "aria-hidden": "true" });
          share.style.width = `${(100 * lines) / batch.errored}%`;
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, h("code", {}, cause)),
            h("td", { class: "number" }, lines.toLocaleString("en"), share),
            h("td", {}, one && [h("code", {}, one.custom_id), " ", one.message]),
          );
        }),
      ),
    ),
  ];
}

export function files(found, batch) {
  const later = STATES[batch.status].runs ? "What has come out can be fetched when the batch has ended." : null;
  if (!found.length && !later) return null;
  return [
    h("h3", {}, "Files"),
    found.length > 0 &&
      h(
        "ul",
        {},
        found.map((one) =>
          h(
            "li",
            {},
            h("a", { href: HERE + one.path, download: one.filename, onclick: fetching(one.path) }, FILES[one.name]),
          ),
        ),
      ),
    later && h("p", { class: "hint" }, later),
  ];
}

/** A link cannot send the key, so the file is fetched and handed to the browser; what is refused is told beside it. */
const fetching = (path) => async (event) => {
  event.preventDefault();
  const link = event.currentTarget;
  link.parentElement.querySelector("small")?.remove();
  const tell = (text, role) => link.after(h("small", { role }, ` ${text}`));
  tell("fetching …", "status");
  const coming = open(path).then((response) => response.blob());
  const content = await coming.catch((error) => error);
  link.parentElement.querySelector("small").remove();
  if (content instanceof Error) return tell(content.message, "alert");
  const url = URL.createObjectURL(content);
  h("a", { href: url, download: link.getAttribute("download") }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
};

export function facts(batch, { metadata, usage }) {
  const rows = {
    API: APIS[batch.api],
    endpoint: batch.endpoint,
    model: batch.model,
    created: when(batch.created_at),
    began: when(batch.began_at),
    ended: when(batch.ended_at),
    expires: batch.ended_at === null ? when(batch.expires_at) : null,
    tokens: usage && `${usage.input.toLocaleString("en")} in, ${usage.output.toLocaleString("en")} out`,
    "of them cached": usage?.cached ? usage.cached.toLocaleString("en") : null,
  };
  return [
    h("h3", {}, "About it"),
    h(
      "dl",
      { class: "about" },
      [...Object.entries(rows), ...Object.entries(metadata ?? {})]
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  ];
}

/** Unix seconds as a time, with the day unless it is today's. */
function when(unix) {
  if (unix === null) return null;
  const at = new Date(unix * 1000);
  const day = at.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  return at.toLocaleString("en", { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}
