// A whole trace on screen: its head, what the first token waited for, the lanes, and the artifact that is looked at.
// Used by /inspect for the chosen request and by /play beside the answer. It follows while the request runs.

import { get, NoKeyError, open, values } from "../common/api.js";
import { clock, count, duration, h, paced } from "../common/dom.js";
import { details, family } from "./details.js";
import { Lanes } from "./lanes.js";
import { sentence, Trace, timing } from "./model.js";
import { waterfall } from "./waterfall.js";
import { inWords } from "./words.js";

export const STATES = { open: "running", ok: "done", refused: "refused", failed: "failed", gone: "client gone" };

/** Whether the playground can make such a request. */
const playable = ({ path, redacted }) =>
  !redacted && /\/(chat\/completions|completions|messages|responses|embeddings)$/.test(path);

const MOST_BESIDE = 800; // artifacts that are shown beside an answer

export class TraceView {
  /** `onartifact(id)` is told what is selected; `actions(head)` are further things that can be done with the trace, as
   * nodes; `compact` is for beside an answer: no head, the lanes first, and only the beginning of a long trace. */
  constructor({ onartifact = () => {}, actions = () => null, compact = false } = {}) {
    this._onartifact = onartifact;
    this._actions = actions;
    this._compact = compact;
    this._refresh = paced(() => this._show());
    this.lanes = new Lanes({
      onselect: (id) => {
        this.select(id);
        this._makeRoom();
      },
      onlook: (id) => this._look(id),
    });
    this._build();
  }

  _build() {
    const axis = (name, says) =>
      h(
        "button",
        {
          type: "button",
          data: { axis: name },
          title: says,
          "aria-pressed": "false",
          onclick: () => this._setAxis(name),
        },
        name,
      );
    const tool = (sign, says, act) =>
      h("button", { type: "button", title: says, "aria-label": says, onclick: act }, sign);
    this._head = h("header", { class: "trace-head" });
    this._error = h("div", { class: "refusal", role: "alert", hidden: true });
    this._facts = h("dl", { class: "facts" });
    this._waterfall = h("section", { class: "card waterfall", "aria-label": "What the first token waited for" });
    this._axes = h(
      "div",
      { class: "segmented", role: "group", "aria-label": "Axis" },
      axis("order", "One beat per engine step, however long it took"),
      axis("time", "To scale"),
    );
    this._readout = h("p", { class: "readout" });
    this._details = h("section", { class: "card details", "aria-label": "The selected artifact" });
    this._family = h("div", {
      class: "card family",
      "aria-live": "polite",
      role: "region",
      "aria-label": "Its family",
    });
    this._words = h(
      "details",
      {
        class: "card words",
        ontoggle: () => this._showWords(),
      },
      h("summary", {}, "What was said, as text"),
      (this._inner = h("div", {})),
    );
    this.element = h("article", { class: "trace", hidden: true }, [
      this._compact ? null : this._head,
      this._error,
      this._compact
        ? null
        : h(
            "div",
            { class: "overview" },
            h("section", { class: "card", "aria-label": "Facts" }, this._facts),
            this._waterfall,
          ),
      (this._line = h(
        "section",
        { class: "card line", "aria-label": "The line" },
        h(
          "div",
          { class: "toolbar" },
          h("h3", {}, "The line"),
          this._axes,
          h(
            "div",
            { class: "segmented", role: "group", "aria-label": "Zoom" },
            tool("−", "Zoom out (-)", () => this.lanes.zoom(1 / 1.6)),
            tool("+", "Zoom in (+)", () => this.lanes.zoom(1.6)),
            tool("fit", "Fit into the view (0)", () => this.lanes.fit()),
          ),
          h(
            "ul",
            { class: "legend", "aria-label": "Legend" },
            h("li", {}, h("span", { class: "key box translation" }), "translation: Portico's"),
            h("li", {}, h("span", { class: "key box inference" }), "inference: the engine's"),
            h("li", {}, h("span", { class: "key box held" }), "held back, and why"),
          ),
        ),
        this.lanes.element,
        this._readout,
        (this._more = h("p", { class: "hint", hidden: true })),
      )),
      h("div", { class: "closer" }, this._details, this._family),
      this._compact ? null : this._words,
      this._compact ? this._waterfall : null,
    ]);
    this._blank();
  }

  /** Show the trace `id` and follow it until it is complete; `artifact` is selected once it is there. */
  async open(id, artifact = null) {
    this._opened?.abort();
    const opened = (this._opened = new AbortController());
    this.trace = new Trace();
    this._wanted = artifact;
    this.selected = null;
    this.lanes.show(this.trace);
    this._blank();
    try {
      do {
        for await (const { trace, artifacts } of values(
          await open(`/inspect/traces/${encodeURIComponent(id)}/live`, { signal: opened.signal }),
        )) {
          if (opened.signal.aborted) return;
          if (trace) this.trace.head = trace;
          for (const one of artifacts ?? []) this.trace.put(one);
          this._refresh();
          if (this._compact && this.trace.head && this.trace.artifacts.length > MOST_BESIDE)
            return this._stopHere(opened);
        }
        if (this.trace.head?.state === "open") await new Promise((resolve) => setTimeout(resolve, 1000)); // it was cut off: again
      } while (this.trace.head?.state === "open" && !opened.signal.aborted);
    } catch (error) {
      if (!opened.signal.aborted) this._fail(error);
    }
  }

  /** The beginning is enough here: nothing more is read of the trace. */
  _stopHere(opened) {
    this._more.hidden = false;
    this._more.replaceChildren(
      `The first ${count(this.trace.artifacts.length, "artifact")}; `,
      h("a", { href: `inspect#${this.trace.head.id}` }, "the inspector"),
      " has them all.",
    );
    this._show();
    opened.abort();
  }

  close() {
    this._opened?.abort();
    this.element.hidden = true;
  }

  select(id) {
    this.selected = id;
    this.lanes.select(id);
    this._showArtifact();
    this._onartifact(id);
  }

  /** Where the details would be below the fold, bring the lanes up, so that both are seen. */
  _makeRoom() {
    if (this._compact) return; // there the answer above should stay
    const top = this._details.getBoundingClientRect().top;
    if (top > innerHeight - 180)
      this._line.scrollIntoView({
        block: "start",
        behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
      });
  }

  _setAxis(name) {
    this.lanes.setAxis(name);
    this._showAxis();
  }

  _fail(error) {
    this.element.hidden = false;
    this._error.hidden = false;
    this._error.replaceChildren(
      h("strong", {}, error.status === 404 ? "This trace is gone" : "The trace cannot be shown"),
      h("p", {}, error.message),
    );
  }

  // -- showing --------------------------------------------------------------------------------------------------------------

  _blank() {
    this._words.open = false;
    this._error.hidden = true;
    this._more.hidden = true;
    this._look(null);
    this._details.replaceChildren(
      h("p", { class: "hint" }, "Choose an artifact in the lanes: click it, or press Tab, the arrow keys and Enter."),
    );
    this._family.replaceChildren(
      h("p", { class: "hint" }, "Here it is told where it comes from, down to the tokens, and what became of it."),
    );
  }

  _show() {
    const { trace } = this;
    if (!trace.head || this._opened.signal.aborted) return;
    this.element.hidden = false; // not before there is something: headings come in order
    if (!this._compact) this._showHead(trace.head);
    this._showError();
    this._waterfall.replaceChildren(...waterfall(trace, (id) => this.select(id)));
    this.lanes.changed();
    this._showAxis();
    this._showWords();
    const wanted = this._wanted ?? (trace.head.state === "open" ? null : (trace.first("error")?.id ?? null));
    if (this.selected === null && wanted !== null && trace.get(wanted)) this.select(wanted);
    else if (this._shown !== undefined && trace.get(this.selected) !== this._shown) this._showArtifact();
  }

  _showAxis() {
    for (const button of this._axes.children)
      button.setAttribute("aria-pressed", String(button.dataset.axis === this.lanes.axis));
  }

  _showWords() {
    if (this._words.open) this._inner.replaceChildren(...inWords(this.trace));
  }

  _showHead(head) {
    const midway = head.state === "failed" && head.status < 400 ? "midway" : null;
    const badge = h(
      "span",
      { class: `badge ${head.state}` },
      [head.status, STATES[head.state] ?? head.state, midway].filter(Boolean).join(" "),
    );
    const parts = [
      h("h2", {}, h("span", { class: "method" }, head.method), ` ${head.path}`),
      badge,
      h("span", { class: "spacer" }),
      playable(head) && h("a", { href: `play#from=${head.id}` }, "Open in playground"),
      this._actions(head),
      h("button", { type: "button", onclick: () => this.export() }, "Export JSON"),
    ];
    this._head.replaceChildren(...parts.filter(Boolean));
    const speed =
      head.completion_tokens > 1 && head.seconds > head.first_token && head.first_token !== null
        ? `${count(Number(((head.completion_tokens - 1) / (head.seconds - head.first_token)).toPrecision(3)), "token")} / s`
        : null;
    const facts = [
      ["model", head.model],
      ["began", clock(head.began)],
      ["answer", head.stream === null || head.stream === undefined ? null : head.stream ? "streamed" : "one body"],
      ["prompt", head.prompt_tokens === null ? null : count(head.prompt_tokens, "token")],
      ["completion", head.completion_tokens === null ? null : count(head.completion_tokens, "token")],
      ["speed", speed],
      ["finish", head.finish],
      ["duration", head.seconds === null ? null : duration(head.seconds)],
      ["trace", head.id],
      ["request", head.request_id],
      ["bodies", head.redacted ? "redacted" : null],
      ["not kept", head.dropped ? count(head.dropped, "artifact") : null],
    ];
    this._facts.replaceChildren(
      ...facts.filter(([, what]) => what).flatMap(([name, what]) => [h("dt", {}, name), h("dd", {}, what)]),
    );
  }

  _showError() {
    const { error } = this.trace;
    this._error.hidden = !error;
    if (!error) return;
    this._error.replaceChildren(
      ...[
        h(
          "strong",
          {},
          this.trace.head.state === "failed" ? "It broke off" : "Refused",
          error.status >= 400 ? h("span", { class: "status" }, ` ${error.status}`) : null,
        ),
        this._compact ? null : h("p", {}, error.message ?? ""), // the answer beside it says it
        h(
          "p",
          { class: "where" },
          [error.param && `field ${error.param}`, error.code && `code ${error.code}`, `told by ${error.layer}`]
            .filter(Boolean)
            .join(", "),
        ),
      ].filter(Boolean),
    );
  }

  _showArtifact() {
    const artifact = (this._shown = this.trace.get(this.selected));
    if (!artifact) return;
    this._details.replaceChildren(...[details(this.trace, artifact)].flat(4).filter(Boolean));
    this._family.replaceChildren(...family(this.trace, artifact, (id) => this.select(id)));
  }

  _look(id) {
    const artifact = id === null ? null : this.trace?.get(id);
    const words = artifact
      ? `${sentence(artifact)}, ${artifact.by}, ${timing(artifact)}; made from ${this.trace.ancestors(id).size}, led to ${this.trace.descendants(id).size}`
      : "Point at an artifact, or walk with the arrow keys: its ancestors and descendants light up.";
    this._readout.replaceChildren(words);
  }

  /** Save the trace as the server has it: what `portico replay` takes. */
  async export() {
    const { id } = this.trace.head;
    try {
      const text = JSON.stringify(await get(`/inspect/traces/${encodeURIComponent(id)}`), null, 1);
      const link = h("a", {
        href: URL.createObjectURL(new Blob([text], { type: "application/json" })),
        download: `${id}.json`,
      });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      if (!(error instanceof NoKeyError)) this._fail(error);
    }
  }
}
