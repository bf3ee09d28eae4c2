// The playground's form: its turns, what it offers, and that it is remembered for this tab.

import { get } from "../common/api.js";
import { h } from "../common/dom.js";
import { SAMPLE_SCHEMA, SAMPLE_TOOLS, toolsOf } from "./chat.js";

const $ = (id) => document.getElementById(id);
const FIELDS = [
  "api",
  "model",
  "system",
  "temperature",
  "max_tokens",
  "seed",
  "thinking",
  "tools",
  "tool_choice",
  "schema",
];
const SAVED = "portico.play";

// which control a server's `param` speaks of
const PARAMS = [
  [/^messages/, "turn-0"],
  [/^system/, "system"],
  [/^model/, "model"],
  [/^temperature/, "temperature"],
  [/^max_/, "max_tokens"],
  [/^seed/, "seed"],
  [/^tool_choice/, "tool_choice"],
  [/^tools/, "tools"],
  [/^(response_format|output_)/, "schema"],
  [/^(reasoning|thinking)/, "thinking"],
];

export function turn(role = "user", text = "") {
  const area = h("textarea", { rows: 2, class: "turn-text" });
  area.value = text;
  const select = h(
    "select",
    { class: "turn-role" },
    ["user", "assistant"].map((one) => h("option", { value: one }, one)),
  );
  select.value = role;
  const element = h(
    "div",
    { class: "turn" },
    select,
    h(
      "button",
      {
        type: "button",
        class: "quiet small",
        onclick: () => remove(element),
      },
      "remove",
    ),
    area,
  );
  $("turns").append(element);
  renumber();
  return area;
}

function remove(element) {
  element.remove();
  if (!$("turns").children.length) turn();
  renumber();
  save();
}

function renumber() {
  [...$("turns").children].forEach((element, i) => {
    const [role, button, text] = element.children;
    role.setAttribute("aria-label", `Role of message ${i + 1}`);
    button.setAttribute("aria-label", `Remove message ${i + 1}`);
    text.setAttribute("aria-label", `Message ${i + 1}`);
    text.id = `turn-${i}`;
  });
}

export function form() {
  const turns = [...$("turns").children].map((element) => ({
    role: element.querySelector("select").value,
    text: element.querySelector("textarea").value,
  }));
  return { ...Object.fromEntries(FIELDS.map((field) => [field, $(field).value])), turns, stream: $("stream").checked };
}

export function save() {
  sessionStorage.setItem(SAVED, JSON.stringify(form()));
}

export function restore() {
  const saved = JSON.parse(sessionStorage.getItem(SAVED) ?? "null");
  for (const { role, text } of saved?.turns ?? [{ role: "user", text: "What is a portico? One sentence." }])
    turn(role, text);
  if (saved) {
    for (const field of FIELDS) $(field).value = saved[field] ?? "";
    $("stream").checked = saved.stream;
  }
  offerChoices(saved?.tool_choice);
}

/** The tool choices that there are, for the tools that there are. */
function offerChoices(wanted = $("tool_choice").value) {
  let names = [];
  try {
    names = toolsOf(form()).map((tool) => tool.name);
  } catch {
    // the field says so when it is sent
  }
  const options = [
    ["auto", "auto: the model decides"],
    ["none", "none"],
    ["required", "required: some tool"],
    ...names.map((name) => [`tool:${name}`, `only ${name}`]),
  ];
  $("tool_choice").replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  $("tool_choice").value = options.some(([value]) => value === wanted) ? wanted : "auto";
}

export async function offerModels() {
  const wanted = JSON.parse(sessionStorage.getItem(SAVED) ?? "null")?.model;
  const { data } = await get("/v1/models");
  const chatting = data.filter((model) => !model.capabilities || model.capabilities.includes("generate"));
  $("model").replaceChildren(
    ...(chatting.length ? chatting : data).map((model) => h("option", { value: model.id }, model.id)),
  );
  if (data.some((model) => model.id === wanted)) $("model").value = wanted;
}

/** The control that a server's error speaks of, if any. */
export function fieldOf(error) {
  const param = error.param ?? /^([a-z_]+)[\s.:[]/.exec(error.message ?? "")?.[1] ?? "";
  return PARAMS.find(([pattern]) => pattern.test(param))?.[1];
}

$("form").addEventListener("input", (event) => {
  event.target.removeAttribute("aria-invalid");
  if (event.target.id === "tools") offerChoices();
  save();
});
$("add").addEventListener("click", () => {
  const last = $("turns").lastElementChild?.querySelector("select").value;
  turn(last === "user" ? "assistant" : "user").focus();
  save();
});
for (const [button, field, sample] of [
  ["sample-tools", "tools", SAMPLE_TOOLS],
  ["sample-schema", "schema", SAMPLE_SCHEMA],
]) {
  $(button).addEventListener("click", () => {
    $(field).value = JSON.stringify(sample, null, 1);
    offerChoices();
    save();
  });
}
