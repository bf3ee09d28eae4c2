// Embeddings: every line of the last message is a text of its own.

import { at } from "./answer.js";
import { number } from "./fields.js";

/** The texts of a message. */
export const textsOf = (text) => text.split("\n").filter((line) => line.trim());

export const embeddings = {
  title: "Embeddings",
  path: "/v1/embeddings",
  lacks: [
    ...["system", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"],
    ...["repetition_penalty", "max_tokens", "min_tokens", "thinking_budget", "seed", "n", "logprobs", "stops"],
    ...["thinking", "tools", "tool_choice", "mocks", "schema", "stream", "files"],
  ],

  body(form, turns) {
    return {
      input: textsOf(turns.findLast((turn) => turn.role === "user").text),
      dimensions: number(form, "dimensions"),
    };
  },

  feed() {},

  whole(answers, { data, usage }) {
    const answer = at(answers, 0);
    answer.vectors = data.map((one) => one.embedding);
    answer.usage = { prompt: usage?.prompt_tokens, completion: 0 };
  },
};
