// Which response came from which: the chain or conversation that a request belongs to, as far as its requests are here.

import { h } from "../common/dom.js";

/** The requests before and behind `head`, oldest first: `heads` are all that are known. */
export function chain(heads, head) {
  if (!head?.response) return [];
  const all = [...heads].filter((one) => one.response);
  if (head.conversation) {
    return all.filter((one) => one.conversation === head.conversation).sort((a, b) => a.began - b.began);
  }
  const made = new Map(all.map((one) => [one.response, one]));
  const found = [head];
  while (made.has(found[0].previous)) found.unshift(made.get(found[0].previous));
  for (let last = head; last; ) {
    last = all.filter((one) => one.previous === last.response).sort((a, b) => b.began - a.began)[0];
    if (last) found.push(last);
  }
  return found;
}

/** One line per response: what it was asked, how much of that the cache spared, what came out. */
export function chainList(heads, head, onchoose) {
  const found = chain(heads, head);
  if (!head?.response) return null;
  const missing = !head.conversation && found[0].previous ? `follows ${found[0].previous}, which is not here` : "";
  const title = head.conversation ? `Conversation ${head.conversation}` : "Chain of responses";
  return h(
    "div",
    {},
    h("h2", {}, title, missing && h("small", {}, ` (${missing})`)),
    h(
      "ol",
      {},
      ...found.map((one) =>
        h(
          "li",
          { "aria-current": one.id === head.id ? "true" : false },
          h("button", { type: "button", class: "quiet", onclick: () => onchoose(one.id) }, one.response),
          h("span", { class: "figures" }, figures(one)),
        ),
      ),
    ),
  );
}

function figures(head) {
  const parts = [];
  if (head.prompt_tokens !== null) {
    const cached = head.cached_tokens ?? 0;
    parts.push(`${head.prompt_tokens} prompt tokens, ${cached} from the cache`);
  }
  if (head.completion_tokens !== null) parts.push(`${head.completion_tokens} out`);
  if (head.background) parts.push("in the background");
  return parts.join(" · ");
}
