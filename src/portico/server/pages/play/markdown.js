// Markdown as models write it becomes nodes: GFM with tables, code in colours, TeX as MathML. The one place that parses.
//
// What a model writes is hostile until proven otherwise. Its HTML stands there as text, pictures are named and not
// fetched, and what the parsers make of the rest goes through DOMPurify, which lets only the elements below pass.

import { h } from "../common/dom.js";
import highlighter from "../vendor/highlight.js";
import { Marked } from "../vendor/marked.js";

const { DOMPurify, temml } = globalThis; // classic scripts of the page

const PASSES = {
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre", "span", "strong"].concat(
    ["table", "tbody", "td", "th", "thead", "tr", "ul"], // of tables and lists
  ),
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  RETURN_DOM_FRAGMENT: true,
};
const LONGEST_TEX = 2000; // characters between two marks; else every mark would be looked for to the end
const LONGEST_COLOURED = 10_000;

const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const TEX = [
  { open: "$$", pattern: new RegExp(`^\\$\\$([^$]{1,${LONGEST_TEX}}?)\\$\\$`), display: true },
  { open: "\\[", pattern: new RegExp(`^\\\\\\[([^]{1,${LONGEST_TEX}}?)\\\\\\]`), display: true },
  { open: "\\(", pattern: new RegExp(`^\\\\\\(([^]{1,${LONGEST_TEX}}?)\\\\\\)`), display: false },
  // as pandoc has it: no space inside, no digit behind, so that $5 and $6 stay prices
  { open: "$", pattern: new RegExp(`^\\$(?!\\s)([^$\\n]{0,${LONGEST_TEX}}?[^$\\s])\\$(?!\\d)`), display: false },
];

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p class="html">${escaped(text)}</p>` : escaped(text)),
    image: ({ href, text }) => escaped(`[picture: ${text || href}]`),
    heading({ tokens, depth }) {
      return `<p class="heading h${depth}">${this.parser.parseInline(tokens)}</p>`; // the page has headings of its own
    },
    code: ({ text, lang }) =>
      `<pre class="${escaped((lang ?? "").split(/\s/)[0])}"><code>${escaped(text)}</code></pre>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
  extensions: [
    {
      name: "tex",
      level: "inline",
      start: (source) => /\$|\\[([]/.exec(source)?.index,
      tokenizer(source) {
        for (const { open, pattern, display } of TEX) {
          const found = source.startsWith(open) && pattern.exec(source);
          if (found) return { type: "tex", raw: found[0], text: found[1], display };
        }
        return undefined;
      },
      renderer: ({ text, display }) => `<span class="tex ${display ? "display" : ""}">${escaped(text)}</span>`,
    },
  ],
});

/** The blocks of a text: marked's tokens, whose `raw` joined is the text. */
export const blocksOf = (source) => marked.lexer(source);

/** A block as nodes; what is costly (colours, TeX) is done where it is `finished`. */
export function nodesOf(block, finished) {
  const fragment = DOMPurify.sanitize(marked.parser([block]), PASSES);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const wide = h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Table" });
    table.replaceWith(wide);
    wide.append(table);
  }
  for (const pre of fragment.querySelectorAll("pre")) code(pre, finished);
  if (finished) for (const span of fragment.querySelectorAll(".tex")) tex(span);
  return fragment;
}

function code(pre, finished) {
  const language = pre.className;
  pre.className = "";
  pre.tabIndex = 0;
  const text = pre.textContent;
  if (finished && text.length <= LONGEST_COLOURED && highlighter.getLanguage(language))
    pre.firstChild.replaceChildren(
      DOMPurify.sanitize(highlighter.highlight(text, { language, ignoreIllegals: true }).value, PASSES),
    );
  const copy = h("button", { type: "button", class: "quiet small" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(copy.closest(".listing").querySelector("pre").textContent);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const box = h("div", { class: "listing" }, h("div", { class: "listing-head" }, h("span", {}, language), copy));
  pre.replaceWith(box);
  box.append(pre);
}

function tex(span) {
  const source = span.textContent;
  try {
    temml.render(source, span, { displayMode: span.classList.contains("display"), throwOnError: true, maxExpand: 500 });
  } catch {
    span.replaceChildren(h("code", {}, source)); // no TeX after all
  }
}
