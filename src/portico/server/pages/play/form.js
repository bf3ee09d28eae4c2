// The playground's form: what it offers, what an API has no field for, presets, and that it is remembered for this tab.

import { APIS } from "../apis/all.js";
import { SAMPLE_MOCKS, SAMPLE_SCHEMA, SAMPLE_TOOLS, toolsOf } from "../apis/fields.js";
import { get } from "../common/api.js";
import { h } from "../common/dom.js";

const $ = (id) => document.getElementById(id);
const FIELDS = [
  "api",
  "model",
  "beside",
  "system",
  "tools",
  "tool_choice",
  "mocks",
  "schema",
  "thinking",
  "stops",
].concat(
  ["temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed"],
  ["max_tokens", "min_tokens", "thinking_budget", "n", "logprobs", "dimensions", "more"],
);
const SAVED = "portico.play";
const PRESETS = "portico.presets";
const abilities = new Map(); // model -> its capabilities

// which control a server's `param` speaks of
const PARAMS = [
  [/^(messages|input|prompt)/, "message"],
  [/^(system|instructions)/, "system"],
  [/^max_/, "max_tokens"],
  [/^tool_choice/, "tool_choice"],
  [/^tools/, "tools"],
  [/^stop/, "stops"],
  [/^(response_format|output_config|text)/, "schema"],
  [/^(thinking_token_budget|thinking\.budget)/, "thinking_budget"],
  [/^(reasoning|thinking)/, "thinking"],
  [/^(top_)?logprobs/, "logprobs"],
  ...["model", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"].map(field),
  ...["repetition_penalty", "seed", "min_tokens", "n", "dimensions"].map(field),
];

function field(name) {
  return [new RegExp(`^${name}\\b`), name];
}

/** The control that a server's error speaks of, if any. */
export function fieldOf(error) {
  const param = error.param ?? /^([a-z_]+)[\s.:[]/.exec(error.message ?? "")?.[1] ?? "";
  return PARAMS.find(([pattern]) => pattern.test(param))?.[1];
}

export function form() {
  return { ...Object.fromEntries(FIELDS.map((name) => [name, $(name).value])), stream: $("stream").checked };
}

/** Fill the form; what is not given is emptied. */
export function fill(given) {
  for (const name of FIELDS) {
    if (name === "api") $(name).value = given.api ?? "openai";
    else if (["model", "beside"].includes(name)) offer(name, given[name]);
    else if (name !== "tool_choice") $(name).value = given[name] ?? "";
  }
  $("stream").checked = given.stream ?? true;
  offerChoices(given.tool_choice);
  showLacks();
  save();
}

function save() {
  sessionStorage.setItem(SAVED, JSON.stringify(form()));
}

/** A select's value, even where it is not offered (any more). */
function offer(name, value) {
  const select = $(name);
  if (value && ![...select.options].some((option) => option.value === value))
    select.append(h("option", { value }, value));
  if (value || name === "beside") select.value = value ?? "";
}

/** What the API has no field for is told, and cannot be filled in. */
function showLacks() {
  const { lacks, title } = APIS[$("api").value];
  for (const name of [...FIELDS, "stream"]) {
    const control = $(name);
    const lacking = lacks.includes(name);
    control.disabled = lacking;
    control.closest(".field, .check")?.classList.toggle("lacking", lacking);
    control.title = lacking ? `${title} has no field for this.` : "";
  }
  $("lacks").textContent = lacks.length ? `${title} has no field for what is greyed out.` : "";
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

/** Whether the chosen model sees pictures. */
export const sees = () => abilities.get($("model").value)?.includes("image") ?? false;

/** Ask the server for its models. */
export async function offerModels() {
  const wanted = form();
  const { data } = await get("/v1/models");
  for (const model of data) abilities.set(model.id, model.capabilities ?? []);
  const options = () => data.map((model) => h("option", { value: model.id }, model.id));
  $("model").replaceChildren(...options());
  $("beside").replaceChildren(h("option", { value: "" }, "no other"), ...options());
  const saved = JSON.parse(sessionStorage.getItem(SAVED) ?? "null");
  const chats = data.find((model) => !model.capabilities || model.capabilities.includes("generate"));
  const known = data.some((model) => model.id === saved?.model);
  $("model").value = known ? saved.model : wanted.model || chats?.id || data[0]?.id;
  $("beside").value = saved?.beside ?? "";
}

// -- presets --------------------------------------------------------------------------------------------------------------

const presets = () => JSON.parse(localStorage.getItem(PRESETS) ?? "{}");

function offerPresets(chosen = "") {
  const names = Object.keys(presets()).sort();
  $("preset").replaceChildren(h("option", { value: "" }, "choose …"), ...names.map((name) => h("option", {}, name)));
  $("preset").value = chosen;
}

function keepPreset(event) {
  event.preventDefault();
  const name = $("preset-name").value.trim();
  if (!name) return $("preset-name").focus();
  localStorage.setItem(PRESETS, JSON.stringify({ ...presets(), [name]: form() }));
  $("preset-name").value = "";
  offerPresets(name);
}

function dropPreset() {
  const { [$("preset").value]: _, ...others } = presets();
  localStorage.setItem(PRESETS, JSON.stringify(others));
  offerPresets();
}

// -- hands ----------------------------------------------------------------------------------------------------------------

export function begin() {
  fill(JSON.parse(sessionStorage.getItem(SAVED) ?? "{}"));
  offerPresets();
  $("form").addEventListener("input", (event) => {
    event.target.removeAttribute("aria-invalid");
    if (event.target.id === "tools") offerChoices();
    if (event.target.id === "api") showLacks();
    save();
  });
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("preset").addEventListener("change", () => $("preset").value && fill(presets()[$("preset").value]));
  $("keep-preset").addEventListener("click", keepPreset);
  $("drop-preset").addEventListener("click", dropPreset);
  const samples = { tools: SAMPLE_TOOLS, schema: SAMPLE_SCHEMA, mocks: SAMPLE_MOCKS };
  for (const [name, sample] of Object.entries(samples)) {
    $(`sample-${name}`).addEventListener("click", () => {
      $(name).value = JSON.stringify(sample, null, 1);
      offerChoices();
      save();
    });
  }
}
