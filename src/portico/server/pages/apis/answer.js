// What came back of one request or of one of its choices, in one shape for every API. It is also the turn of the model in a
// conversation, so it is plain data.

/** An answer of which nothing has come. */
export const emptyAnswer = () => ({
  reasoning: "",
  signature: "", // of the thought, where the API seals it
  content: "",
  calls: [], // {id, name, arguments}
  tokens: [], // {text, logprob, top: [{text, logprob}]}, where logprobs were asked for
  vectors: null, // embeddings
  finish: null,
  usage: null, // {prompt, completion}
  error: null, // {message, param, code, type, status}
});

/** The answer at an index, made when first spoken of. */
export const at = (answers, index) => (answers[index] ??= emptyAnswer());
