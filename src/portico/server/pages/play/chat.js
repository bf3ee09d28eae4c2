// The playground's words: a form becomes a request of either API, and what comes back becomes one answer. No DOM here.
//
// The form is one for both APIs; what is spelled differently (system, tools, tool_choice, schema, thinking) is spelled
// here. An answer is folded from stream events or from a whole body into the same shape.

const BUDGETS = { low: 1024, medium: 4096, high: 16384 }; // thinking tokens, for the API that counts them

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
export const SAMPLE_SCHEMA = {
  type: "object",
  properties: { name: { type: "string" }, population: { type: "integer" } },
  required: ["name", "population"],
  additionalProperties: false,
};

/** A field of the form that cannot be sent as it is; `field` is its element's id. */
export class FieldError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/** JSON out of a text field; null where it is empty. Raises FieldError. */
export function parsed(form, field, what) {
  const text = form[field].trim();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FieldError(field, `${what} is not JSON: ${error.message}.`);
  }
}

/** Tools in one shape, `{name, description, parameters}`, whichever API's they were written in. */
export function toolsOf(form) {
  const tools = parsed(form, "tools", "The list of tools") ?? [];
  if (!Array.isArray(tools)) throw new FieldError("tools", "The tools must be a JSON list.");
  return tools.map((tool) => {
    const { name, description, parameters, input_schema: schema } = tool.function ?? tool;
    if (typeof name !== "string") throw new FieldError("tools", "Every tool needs a name.");
    return { name, description, parameters: parameters ?? schema ?? { type: "object", properties: {} } };
  });
}

/** The form as `{path, headers, body}`. Raises FieldError. */
export function requestOf(form) {
  const turns = form.turns.filter((turn) => turn.text.trim());
  if (!turns.length) throw new FieldError("turn-0", "Write a message first.");
  return form.api === "anthropic" ? anthropic(form, turns) : openai(form, turns);
}

const number = (text) => (text.trim() === "" ? undefined : Number(text));

function openai(form, turns) {
  const tools = toolsOf(form).map((tool) => ({ type: "function", function: tool }));
  const schema = parsed(form, "schema", "The schema");
  const messages = turns.map(({ role, text }) => ({ role, content: text }));
  if (form.system.trim()) messages.unshift({ role: "system", content: form.system });
  const choice = form.tool_choice;
  const named = choice.startsWith("tool:");
  const body = {
    model: form.model || undefined,
    messages,
    temperature: number(form.temperature),
    max_completion_tokens: number(form.max_tokens),
    seed: number(form.seed),
    tools: tools.length ? tools : undefined,
    tool_choice:
      !tools.length || choice === "auto"
        ? undefined
        : named
          ? { type: "function", function: { name: choice.slice(5) } }
          : choice,
    response_format: schema
      ? { type: "json_schema", json_schema: { name: "answer", schema, strict: true } }
      : undefined,
    reasoning_effort: form.thinking || undefined,
    stream: form.stream,
    stream_options: form.stream ? { include_usage: true } : undefined,
  };
  return { path: "/v1/chat/completions", headers: { "content-type": "application/json" }, body };
}

function anthropic(form, turns) {
  const tools = toolsOf(form).map(({ name, description, parameters }) => ({
    name,
    description,
    input_schema: parameters,
  }));
  const schema = parsed(form, "schema", "The schema");
  const choice = form.tool_choice;
  const spelled = choice.startsWith("tool:")
    ? { type: "tool", name: choice.slice(5) }
    : { type: { required: "any" }[choice] ?? choice };
  const body = {
    model: form.model,
    system: form.system.trim() ? form.system : undefined,
    messages: turns.map(({ role, text }) => ({ role, content: text })),
    max_tokens: number(form.max_tokens) ?? 1024, // this API wants one
    temperature: number(form.temperature),
    tools: tools.length ? tools : undefined,
    tool_choice: !tools.length || choice === "auto" ? undefined : spelled,
    output_config: schema ? { format: { type: "json_schema", schema } } : undefined,
    thinking:
      form.thinking === "none"
        ? { type: "disabled" }
        : form.thinking
          ? { type: "enabled", budget_tokens: BUDGETS[form.thinking] }
          : undefined,
    stream: form.stream,
  };
  return {
    path: "/v1/messages",
    headers: { "content-type": "application/json", "anthropic-version": "2023-06-01" },
    body,
  };
}

/** The same request as a command line; the key stays in the environment. */
export function curlOf(origin, { path, headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const all = Object.entries(headers).map(([name, content]) => `  -H ${quoted(`${name}: ${content}`)} \\`);
  return [
    `curl${body.stream ? " -N" : ""} ${origin}${path} \\`,
    ...all,
    '  -H "Authorization: Bearer $PORTICO_API_KEY" \\',
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join("\n");
}

// -- answers ----------------------------------------------------------------------------------------------------------------

/** What came back so far: reasoning, content, calls, how it ended, what it cost. */
export class Answer {
  reasoning = "";
  content = "";
  calls = []; // {id, name, arguments}
  finish = null;
  usage = null; // {prompt, completion}
  error = null; // {message, param, type}

  /** A stream's next event. */
  feed(api, event) {
    if (event.error) this.error = event.error;
    else if (api === "anthropic") this._anthropicEvent(event);
    else this._openaiChunk(event);
  }

  /** A whole body. */
  static whole(api, body) {
    const answer = new Answer();
    if (api === "anthropic") {
      body.content.forEach((block, index) => answer._block(index, block, JSON.stringify(block.input)));
      answer._ended(body.stop_reason, body.usage);
    } else {
      answer._openaiChunk({ ...body, choices: body.choices.map((choice) => ({ ...choice, delta: choice.message })) });
    }
    return answer;
  }

  _openaiChunk({ choices, usage }) {
    if (usage) this.usage = { prompt: usage.prompt_tokens, completion: usage.completion_tokens };
    const choice = choices?.[0];
    if (!choice) return;
    const { reasoning, content, tool_calls: calls } = choice.delta ?? {};
    this.reasoning += reasoning ?? "";
    this.content += content ?? "";
    (calls ?? []).forEach((part, i) => {
      const call = (this.calls[part.index ?? i] ??= { id: "", name: "", arguments: "" });
      call.id ||= part.id ?? "";
      call.name += part.function?.name ?? "";
      call.arguments += part.function?.arguments ?? "";
    });
    this.finish = choice.finish_reason ?? this.finish;
  }

  _anthropicEvent(event) {
    if (event.type === "message_start") this._ended(null, event.message.usage);
    else if (event.type === "content_block_start") this._block(event.index, event.content_block, "");
    else if (event.type === "content_block_delta") this._delta(event.index, event.delta);
    else if (event.type === "message_delta") this._ended(event.delta.stop_reason, event.usage);
  }

  _block(index, block, input) {
    if (block.type === "thinking") this.reasoning += block.thinking ?? "";
    else if (block.type === "text") this.content += block.text ?? "";
    else if (block.type === "tool_use")
      this.calls.push({ index, id: block.id, name: block.name, arguments: input ?? "" });
  }

  _delta(index, delta) {
    this.reasoning += delta.thinking ?? "";
    this.content += delta.text ?? "";
    if (delta.partial_json) this.calls.find((call) => call.index === index).arguments += delta.partial_json;
  }

  _ended(reason, usage) {
    this.finish = reason ?? this.finish;
    if (usage)
      this.usage = {
        prompt: usage.input_tokens ?? this.usage?.prompt,
        completion: usage.output_tokens ?? this.usage?.completion,
      };
  }
}
