// OpenAI's completions: the prompt is the model's own, nothing is put around it.

import { at } from "./answer.js";
import { responseFormat, sampling, usageOf } from "./chat.js";
import { number } from "./fields.js";

export const completions = {
  title: "Completions",
  path: "/v1/completions",
  lacks: ["system", "thinking", "thinking_budget", "tools", "tool_choice", "mocks", "dimensions", "files"],

  body(form, turns) {
    return {
      prompt: turns.map((turn) => turn.text ?? turn.content).join(""),
      ...sampling(form),
      max_tokens: number(form, "max_tokens") ?? 256, // this API's own default is 16
      logprobs: number(form, "logprobs"),
      response_format: responseFormat(form),
    };
  },

  feed(answers, { choices, usage }) {
    for (const { index, text, finish_reason: finish, logprobs } of choices ?? []) {
      const answer = at(answers, index);
      answer.content += text ?? "";
      answer.finish = finish ?? answer.finish;
      (logprobs?.tokens ?? []).forEach((token, i) => {
        const top = Object.entries(logprobs.top_logprobs?.[i] ?? {});
        answer.tokens.push({
          text: token,
          logprob: logprobs.token_logprobs[i],
          top: top.map(([one, logprob]) => ({ text: one, logprob })),
        });
      });
    }
    if (usage) at(answers, 0).usage = usageOf(usage);
  },

  whole(answers, body) {
    this.feed(answers, body);
  },
};
