// The fields of the playground's form, read and checked: what cannot be sent is said at its field, before it is sent.
// What a value may be is the server's to say; here it must only be what its field is for. No DOM.

/** A field of the form that cannot be sent as it is; `field` is its element's id. */
export class FieldError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const WHOLE = ["top_k", "max_tokens", "min_tokens", "thinking_budget", "seed", "n", "logprobs", "dimensions"];

/** The number in a field; undefined where it is empty. Raises FieldError. */
export function number(form, field) {
  const text = (form[field] ?? "").trim();
  if (!text) return undefined;
  const found = Number(text.replace(/^(-?\d+),(\d+)$/, "$1.$2")); // as many write decimals
  if (!Number.isFinite(found)) throw new FieldError(field, `“${text}” is not a number.`);
  if (WHOLE.includes(field) && !Number.isInteger(found))
    throw new FieldError(field, `“${text}” is not a whole number.`);
  return found;
}

/** Several numbers as fields of a body, `{name in the body: field}`. */
export const numbers = (form, names) =>
  Object.fromEntries(Object.entries(names).map(([name, field]) => [name, number(form, field)]));

/** JSON out of a text field; null where it is empty. Raises FieldError. */
export function parsed(form, field, what) {
  const text = (form[field] ?? "").trim();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FieldError(field, `${what} is not JSON: ${error.message}.`);
  }
}

/** A JSON object out of a text field, empty where there is none. Raises FieldError. */
export function object(form, field, what) {
  const found = parsed(form, field, what) ?? {};
  if (typeof found !== "object" || Array.isArray(found)) throw new FieldError(field, `${what} must be a JSON object.`);
  return found;
}

/** Tools in one shape, `{name, description, parameters}`, whichever API's they were written in. */
export function toolsOf(form) {
  const tools = parsed(form, "tools", "The list of tools") ?? [];
  if (!Array.isArray(tools)) throw new FieldError("tools", "The tools must be a JSON list.");
  return tools.map((tool) => {
    const { name, description, parameters, input_schema: schema } = tool?.function ?? tool ?? {};
    if (typeof name !== "string") throw new FieldError("tools", "Every tool needs a name.");
    return { name, description, parameters: parameters ?? schema ?? { type: "object", properties: {} } };
  });
}

/** Stop strings, one a line. */
export function stopsOf(form) {
  const lines = (form.stops ?? "").split("\n").filter(Boolean);
  return lines.length ? lines : undefined;
}

/** Which tool must be called: `{name}` a certain one, `{word}` auto, none or required; null where there are no tools or
 * it is as by default. */
export function choiceOf(form, tools) {
  const choice = form.tool_choice;
  if (!tools.length || !choice || choice === "auto") return null;
  return choice.startsWith("tool:") ? { name: choice.slice(5) } : { word: choice };
}

export const SAMPLE_TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Current weather in a city",
      parameters: {
        type: "object",
        properties: { city: { type: "string" }, unit: { type: "string", enum: ["celsius", "fahrenheit"] } },
        required: ["city"],
      },
    },
  },
];
export const SAMPLE_MOCKS = { get_weather: { temperature: 17, sky: "cloudy" } };
export const SAMPLE_SCHEMA = {
  type: "object",
  properties: { name: { type: "string" }, population: { type: "integer" } },
  required: ["name", "population"],
  additionalProperties: false,
};
