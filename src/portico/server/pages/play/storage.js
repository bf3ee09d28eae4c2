// Conversations kept in the browser (IndexedDB): nothing leaves it. Without such a store (private windows of some browsers)
// they live as long as the page.

const opened = new Promise((resolve) => {
  const request = indexedDB.open("portico", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("talks", { keyPath: "id" });
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => resolve(null);
});
const meanwhile = new Map();

async function act(mode, work) {
  const base = await opened;
  if (!base) return null;
  return new Promise((resolve, reject) => {
    const request = work(base.transaction("talks", mode).objectStore("talks"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** All that is kept, the latest first. */
export async function kept() {
  const found = (await act("readonly", (talks) => talks.getAll())) ?? [...meanwhile.values()];
  return found.sort((a, b) => b.changed - a.changed);
}

/** Keep a conversation (see `Conversation.saved`). Raises what the browser says where there is no room. */
export async function keep(talk) {
  meanwhile.set(talk.id, talk);
  await act("readwrite", (talks) => talks.put(talk));
}

export async function forget(id) {
  meanwhile.delete(id);
  await act("readwrite", (talks) => talks.delete(id));
}
