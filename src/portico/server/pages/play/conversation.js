// A conversation as a tree: another answer or another wording is a sibling, and one path of it is looked at. Plain data,
// no DOM.
//
// A node is a turn with `id`, `parent` and `chosen`, the child that the path goes through. Turns are those of apis/all.js;
// what stands beside each other (choices of one request, two models) has the same `group`.

export class Conversation {
  id = crypto.randomUUID();
  name = "";
  changed = Date.now();
  nodes = new Map([[0, { id: 0, parent: null, chosen: null }]]);

  /** What `saved()` gave; raises Error where that is no conversation. */
  static from({ id, name, changed, nodes }) {
    const found = new Conversation();
    if (!Array.isArray(nodes) || nodes[0]?.id !== 0) throw new Error("This is no conversation of the playground.");
    Object.assign(found, { id: id ?? found.id, name: String(name ?? ""), changed: changed ?? found.changed });
    found.nodes = new Map(nodes.map((node) => [node.id, { ...node, running: false }]));
    for (const node of nodes.slice(1))
      if (!found.nodes.has(node.parent) || !["user", "assistant", "tool"].includes(node.role))
        throw new Error("A turn of this conversation is damaged.");
    return found;
  }

  saved() {
    const { id, changed } = this;
    return { id, name: this.title, changed, nodes: [...this.nodes.values()] };
  }

  /** Its name, or the first words that were said. */
  get title() {
    const first = [...this.nodes.values()].find((node) => node.role === "user");
    return this.name || first?.text.trim().slice(0, 60) || "New conversation";
  }

  /** Put a turn behind another (0: the beginning) and look at it. */
  add(parent, turn) {
    const id = Math.max(...this.nodes.keys()) + 1;
    const node = { ...turn, id, parent, chosen: null };
    this.nodes.set(id, node);
    this.choose(id);
    return node;
  }

  choose(id) {
    const node = this.nodes.get(id);
    this.nodes.get(node.parent).chosen = id;
    this.changed = Date.now();
  }

  children(id) {
    return [...this.nodes.values()].filter((node) => node.parent === id);
  }

  siblings(node) {
    return this.children(node.parent);
  }

  /** The turns that are looked at, down to `last` or to the end. */
  path(last = null) {
    if (last === null) {
      const found = [];
      for (let node = this.nodes.get(0); (node = this.nodes.get(node.chosen)); ) found.push(node);
      return found;
    }
    const found = [];
    for (let node = this.nodes.get(last); node?.id; node = this.nodes.get(node.parent)) found.unshift(node);
    return found;
  }

  /** The turns up to `last` as a request has them: an answer of which nothing came is left out. */
  turns(last) {
    return this.path(last).filter(
      (node) => node.role !== "assistant" || node.content || node.reasoning || node.calls.length,
    );
  }
}
