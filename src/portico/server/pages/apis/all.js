// Every API the playground speaks: `{title, path, headers, lacks, body(form, turns), feed(answers, event),
// whole(answers, body)}`. `lacks` are the form's fields for which an API has none; `turns` are a conversation's, oldest first:
// `{role: "user", text, files}`, `{role: "tool", call, name, text}`, and answers with the role "assistant".

import { chat } from "./chat.js";
import { completions } from "./completions.js";
import { embeddings } from "./embeddings.js";
import { FieldError, object } from "./fields.js";
import { messages } from "./messages.js";
import { responses } from "./responses.js";

export const APIS = { openai: chat, anthropic: messages, responses, completions, embeddings };

/** The form and the turns as `{path, headers, body}`. Raises FieldError. */
export function requestOf(form, turns, model = form.model) {
  const api = APIS[form.api];
  if (!turns.length) throw new FieldError("message", "Write a message first.");
  const written = Object.fromEntries(
    Object.entries(form).map(([k, v]) => [k, api.lacks.includes(k) && k !== "stream" ? "" : v]),
  );
  const body = { model: model || undefined, ...api.body(written, turns), ...object(form, "more", "What is added") };
  return { path: api.path, headers: { "content-type": "application/json", ...api.headers }, body };
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
