// The turns of a conversation on screen. A turn's element is made once and stays while it is looked at, so that an answer
// which grows is drawn by its own view alone; what can be done with a turn is asked of `hands`.

import { duration, h } from "../common/dom.js";
import { AnswerView } from "./answer_view.js";
import { shownFile } from "./attaching.js";
import { similarity } from "./similarity.js";
import { tokensView } from "./tokens_view.js";

export class Turns {
  #list;
  #hands;
  #elements = new Map(); // id -> {element, view, foot, calls}

  /** Draws into `list`. `hands`: {again(node), edit(node, text), choose(node), results(node, texts), look(node), field(error)}. */
  constructor(list, hands) {
    this.#list = list;
    this.#hands = hands;
  }

  /** Forget every element: another conversation is shown. */
  clear() {
    this.#elements.clear();
    this.#list.replaceChildren();
  }

  /** Show the turns of a path; answers of one group stand side by side. */
  draw(conversation) {
    const path = conversation.path();
    const groups = path.map((node) =>
      node.group ? conversation.siblings(node).filter((one) => one.group === node.group) : [node],
    );
    const rows = path.map((node, place) => {
      const group = groups[place];
      const elements = group.map((one) => this.#element(one, conversation));
      if (elements.length === 1) return elements[0];
      group.forEach((one, i) => elements[i].classList.toggle("taken", one.id === node.id));
      const known = elements[0].parentElement?.classList.contains("row") ? elements[0].parentElement : null;
      const row = known ?? h("div", { class: "row" });
      for (const element of elements) if (element.parentElement !== row) row.append(element);
      return row;
    });
    for (const element of [...this.#list.children]) if (!rows.includes(element)) element.remove();
    rows.forEach(
      (row, i) => this.#list.children[i] !== row && this.#list.insertBefore(row, this.#list.children[i] ?? null),
    );
    for (const node of groups.flat()) this.#about(node, conversation);
  }

  /** An answer has grown. */
  grown(node) {
    this.#elements.get(node.id)?.view.show(node);
  }

  /** An answer is complete; resolves when it is drawn. */
  async ended(node) {
    const shown = this.#elements.get(node.id);
    if (!shown) return;
    await shown.view.end(node);
    this.#finish(node, shown);
  }

  #element(node, conversation) {
    const known = this.#elements.get(node.id);
    if (known) return known.element;
    const made = { user: () => this.#user(node), tool: () => this.#tool(node), assistant: () => this.#answer(node) }[
      node.role
    ]();
    made.bar = h("div", { class: "bar" });
    made.element.append(made.bar);
    made.element.dataset.id = node.id;
    this.#elements.set(node.id, made);
    this.#about(node, conversation);
    if (node.role === "assistant" && !node.running) {
      made.view.end(node).then(() => this.#finish(node, made));
    }
    return made.element;
  }

  #user(node) {
    const text = h("p", { class: "said" }, node.text);
    const files = node.files?.length ? h("div", { class: "files" }, node.files.map(shownFile)) : null;
    return { element: h("article", { class: "turn user", "aria-label": "You" }, files, text), text };
  }

  #tool(node) {
    const head = h("h3", {}, h("span", {}, "result of "), node.name || node.call);
    const body = h("pre", { class: "code", tabindex: 0 }, node.text);
    return { element: h("article", { class: "turn tool", "aria-label": "Result of a tool" }, head, body) };
  }

  #answer(node) {
    const view = new AnswerView();
    const by = h("h3", {}, node.model || "model", h("small", {}, node.api ? ` ${node.api}` : ""));
    const foot = h("p", { class: "foot" });
    const after = h("div", { class: "after" });
    const element = h("article", { class: "turn assistant", "aria-label": "Answer" }, by, view.element, after, foot);
    return { element, view, foot, after };
  }

  /** What stands under a turn: other wordings, and what can be done. */
  #about(node, conversation) {
    const { bar, element } = this.#elements.get(node.id);
    const all = conversation.siblings(node);
    const others = node.group ? all.filter((one) => one.group !== node.group || one.id === node.id) : all;
    const place = others.findIndex((one) => one.id === node.id);
    const button = (words, says, act) =>
      h("button", { type: "button", class: "quiet small", title: says, onclick: act }, words);
    const step = (to, sign, says) =>
      h(
        "button",
        {
          ...{ type: "button", class: "quiet small", title: says, "aria-label": says, disabled: !others[to] },
          onclick: () => this.#hands.choose(others[to]),
        },
        sign,
      );
    const parts = [
      others.length > 1 && [
        step(place - 1, "‹", "The one before"),
        h("span", {}, `${place + 1}/${others.length}`),
        step(place + 1, "›", "The next one"),
      ],
      node.role === "user" && button("Edit", "Another wording, as a branch", () => this.#edit(node)),
      node.role === "assistant" &&
        !node.running && [
          button("Again", "Another answer", () => this.#hands.again(node)),
          button("Copy", "The answer's text", () => navigator.clipboard.writeText(node.content)),
          node.tokens.length > 0 && button("Tokens", "How likely each was", () => this.#tokens(node)),
          node.trace && button("Trace", "Show its trace beside the conversation", () => this.#hands.look(node)),
          node.trace && h("a", { class: "small", href: `inspect#${node.trace}` }, "Inspect"),
          node.group &&
            !element.classList.contains("taken") &&
            all.length > 1 &&
            button("Go on with this", "The conversation goes on from here", () => this.#hands.choose(node)),
        ],
    ];
    bar.replaceChildren(...parts.flat(2).filter(Boolean));
  }

  #edit(node) {
    const { text } = this.#elements.get(node.id);
    const area = h("textarea", { rows: 3, "aria-label": "Another wording" });
    area.value = node.text;
    const done = () => editor.replaceWith(text);
    const send = () => (done(), this.#hands.edit(node, area.value));
    const editor = h(
      "div",
      { class: "editor" },
      area,
      h("button", { type: "button", class: "primary", onclick: send }, "Send"),
      h("button", { type: "button", onclick: done }, "Cancel"),
    );
    text.replaceWith(editor);
    area.focus();
  }

  #tokens(node) {
    const { after } = this.#elements.get(node.id);
    const open = after.querySelector(".tokens");
    if (open) open.remove();
    else after.append(tokensView(node.tokens));
  }

  /** What an answer says at its end: how it ended, what it cost, what is asked of the reader. */
  #finish(node, { after, foot }) {
    const { usage, finish, seconds, first } = node;
    const facts = [
      node.stopped ? "stopped" : finish && `finish: ${finish}`,
      usage && `${usage.prompt ?? "?"} → ${usage.completion ?? "?"} tokens`,
      first !== undefined && `first after ${duration(first)}`,
      seconds !== undefined && duration(seconds),
    ];
    foot.textContent = facts.filter(Boolean).join(", ");
    const parts = [];
    if (node.vectors) parts.push(similarity(node.texts ?? [], node.vectors));
    if (node.warning) parts.push(h("p", { class: "warning", role: "status" }, node.warning));
    if (node.error) parts.push(this.#error(node));
    else if (node.calls.length && node.awaits) parts.push(this.#results(node));
    after.replaceChildren(...parts);
  }

  #error(node) {
    const { error } = node;
    const midway = node.content || node.reasoning || node.calls.length;
    const control = this.#hands.field(error);
    const title = midway ? "It broke off here" : error.status ? `Refused with ${error.status}` : "This cannot be";
    const where = [error.param && `field ${error.param}`, error.code && `code ${error.code}`, error.type];
    return h(
      "div",
      { class: "refusal", role: "alert" },
      h("strong", {}, title),
      h("p", {}, error.message ?? ""),
      h("p", { class: "where" }, where.filter(Boolean).join(", ")),
      control && h("button", { type: "button", onclick: () => control.focus() }, "Go to the field"),
    );
  }

  #results(node) {
    const areas = node.calls.map((call) => {
      const area = h("textarea", { class: "mono", rows: 2, "aria-label": `Result of ${call.name}` });
      area.value = node.awaits[call.name] ?? "";
      return area;
    });
    const send = () =>
      this.#hands.results(
        node,
        areas.map((area) => area.value),
      );
    return h(
      "div",
      { class: "results" },
      node.calls.map((call, i) => h("div", { class: "field" }, h("p", {}, `Result of ${call.name}`), areas[i])),
      h(
        "button",
        { type: "button", class: "primary", onclick: send },
        node.calls.length > 1 ? "Send results" : "Send result",
      ),
    );
  }
}
