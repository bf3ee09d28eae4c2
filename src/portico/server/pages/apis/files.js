// Pictures and texts that go with what a user says: `{name, type, url}`, whose `url` is a data: URL. Each API has parts of
// its own for them.

export const isPicture = (file) => file.type.startsWith("image/");

/** What a data: URL holds, in base64. */
export const base64Of = ({ url }) => url.slice(url.indexOf(",") + 1);

/** The text of a file. */
export const textOf = (file) =>
  new TextDecoder().decode(Uint8Array.from(atob(base64Of(file)), (one) => one.charCodeAt(0)));

/** A text as a file. */
export const fileOf = (name, text) => {
  const bytes = Array.from(new TextEncoder().encode(text), (one) => String.fromCharCode(one)).join("");
  return { name, type: "text/plain", url: `data:text/plain;base64,${btoa(bytes)}` };
};

/** What a user says as an API wants it: the text alone, or a list of parts where files go with it. */
export const withFiles = ({ text, files = [] }, words, part) =>
  files.length ? [...files.map(part), ...(text ? [words(text)] : [])] : text;
