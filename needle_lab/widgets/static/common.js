// What all needle_lab views share. Each view's module is this file followed by its own: no build step, no network.

const ROW = 24;            // height of a row, as in common.css
const SPARE = 6;           // rows kept ready above and below the part in view

/** An element: make("span", "ndl-id", "conv1", {title: "..."}). */
function make(tag, cls = "", text = "", attributes = {}) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== "") e.textContent = text;
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

/** The frame of a view: head (title, tools), body, detail line, foot (legend, keys). */
function frame(el, kind, title, summary, keys, families) {
  const root = make("div", `ndl ndl-live ndl-${kind}`, "", { "data-lm-suppress-shortcuts": "true" });
  const shell = make("div", "ndl-frame"), head = make("div", "ndl-head"), tools = make("div", "ndl-tools");
  const body = make("div", "ndl-body"), detail = make("div", "ndl-detail", "", { "aria-live": "polite" });
  const foot = make("div", "ndl-foot"), hints = make("div", "ndl-keys");
  head.append(make("b", "", title), make("span", "", summary), tools);
  for (const [key, what] of keys) {
    const hint = make("span");
    hint.append(make("kbd", "", key), ` ${what}`);
    hints.append(hint);
  }
  if (families) foot.append(legend(families));
  foot.append(hints);
  shell.append(head, body, detail, foot);
  root.append(shell);
  el.replaceChildren(root);
  return { root, head, tools, body, detail, foot };
}

function legend(families) {
  const box = make("div", "ndl-legend");
  for (const [key, { glyph, title }] of Object.entries(families)) {
    const item = make("span");
    item.append(make("span", `ndl-g ${key}`, glyph), ` ${title}`);
    box.append(item);
  }
  return box;
}

function button(tools, text, title, act) {
  const b = make("button", "", text, { type: "button", title });
  b.addEventListener("click", act);
  tools.append(b);
  return b;
}

/** A virtual list: only the rows in view are in the page, and a row is patched, not rebuilt, when its content changes.
 *  create() -> element; patch(element, k) fills it with row k; chosen(k) hears which row became the active one. */
class Rows {
  constructor(box, { create, patch, chosen, role }) {
    Object.assign(this, { box, create, patch, chosen, count: 0, at: 0, live: new Map(), free: [] });
    this.name = `ndl${Math.random().toString(36).slice(2, 9)}`;
    this.space = make("div", "ndl-space", "", { role: "presentation" });
    this.itemRole = role;
    box.append(this.space);
    box.addEventListener("scroll", () => this.paint(), { passive: true });
    this.resized = new ResizeObserver(() => {
      if (!this.placed && box.clientHeight) { this.placed = true; this.reach(this.at); }     // the size is known only now
      this.paint();
    });
    this.resized.observe(box);
  }
  close() { this.resized.disconnect(); }
  get top() { return this.space.offsetTop; }                    // height of the sticky header
  page() { return Math.max(1, Math.floor((this.box.clientHeight - this.top) / ROW) - 1); }
  resize(count) {
    this.count = count;
    this.space.style.height = `${count * ROW}px`;
    this.at = Math.max(0, Math.min(this.at, count - 1));
    this.paint();
  }
  paint() {
    const height = this.box.clientHeight || 22 * ROW;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - SPARE);
    const last = Math.min(this.count, Math.ceil((this.box.scrollTop + height) / ROW) + SPARE);
    for (const [k, e] of this.live) if (k < first || k >= last) { this.live.delete(k); this.free.push(e); }
    for (let k = first; k < last; k++) {
      let e = this.live.get(k);
      if (!e) {
        e = this.free.pop() || this.fresh();
        this.live.set(k, e);
        e.dataset.k = k;
        e.id = `${this.name}-${k}`;
        e.style.transform = `translateY(${k * ROW}px)`;
      }
      this.patch(e, k);
      e.classList.toggle("at", k === this.at);
      e.setAttribute("aria-selected", k === this.at);
    }
    for (const e of this.free.splice(0)) e.remove();
    if (this.count) this.box.setAttribute("aria-activedescendant", `${this.name}-${this.at}`);
  }
  fresh() {
    const e = this.create();
    e.classList.add("ndl-row");
    e.setAttribute("role", this.itemRole);
    this.space.append(e);
    return e;
  }
  /** Make row k the active one and bring it into view. */
  go(k) {
    if (!this.count) return;
    this.at = Math.max(0, Math.min(this.count - 1, k));
    this.reach(this.at);
    this.paint();
    this.chosen(this.at);
  }
  /** Scroll the box, not the notebook, until row k is in view. */
  reach(k) {
    const y = k * ROW, inner = this.box.clientHeight - this.top;
    if (y < this.box.scrollTop) this.box.scrollTop = y;
    else if (y + ROW > this.box.scrollTop + inner) this.box.scrollTop = y + ROW - inner;
  }
  /** The keys that every list has; a view adds its own. */
  keys() {
    return {
      ArrowDown: () => this.go(this.at + 1), ArrowUp: () => this.go(this.at - 1),
      PageDown: () => this.go(this.at + this.page()), PageUp: () => this.go(this.at - this.page()),
      Home: () => this.go(0), End: () => this.go(this.count - 1),
    };
  }
}

/** Keys of a view: handled ones go no further, so the notebook's own shortcuts stay out of the way. */
function onKeys(root, table) {
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.target.tagName === "BUTTON") return;
    const act = !event.ctrlKey && !event.metaKey && !event.altKey && table[event.key];
    if (!act) return;
    act(event);
    event.preventDefault();
    event.stopPropagation();
  });
}

/** The search field. find(text) -> ids in order; go(id) shows one; changed() repaints marks. Enter next, Escape back. */
class Search {
  constructor(tools, { find, go, changed, home, label }) {
    Object.assign(this, { find, show: go, changed, home, hits: [], at: -1, text: "" });
    this.input = make("input", "", "", { type: "search", placeholder: label, "aria-label": label, spellcheck: "false" });
    this.found = make("span", "ndl-found", "", { "aria-live": "polite" });
    tools.append(this.found, this.input);
    this.input.addEventListener("input", () => this.update());
    this.input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") { this.input.value = ""; this.update(); this.home.focus(); }
      else if (event.key === "ArrowDown") this.home.focus();
      else return;
      event.preventDefault();
    });
  }
  focus() { this.input.focus(); this.input.select(); }
  update() {
    this.text = this.input.value.trim().toLowerCase();
    this.hits = this.text ? this.find(this.text) : [];
    this.at = -1;
    this.changed();
    if (this.hits.length) this.step(1); else this.say();
  }
  step(by) {
    if (!this.hits.length) return;
    this.at = (this.at + by + this.hits.length) % this.hits.length;
    this.show(this.hits[this.at]);
    this.say();
  }
  say() { this.found.textContent = !this.text ? "" : this.hits.length ? `${this.at + 1} of ${this.hits.length}` : "none"; }
}

/** Text with the searched part marked; the same element is reused. */
function mark(e, text, searched) {
  const k = searched ? text.toLowerCase().indexOf(searched) : -1;
  if (k < 0) { if (e.textContent !== text || e.firstElementChild) e.textContent = text; return; }
  e.replaceChildren(text.slice(0, k), make("span", "ndl-hit", text.slice(k, k + searched.length)),
                    text.slice(k + searched.length));
}

/** Draw now and again whenever `data` changes; draw(el, data, tell) returns a function that cleans up. */
function view(draw) {
  return {
    render({ model, el }) {
      let close = () => {};
      const tell = (name) => { model.set("selected", name); model.save_changes(); };
      const again = () => { close(); close = draw(el, model.get("data"), tell) || (() => {}); };
      model.on("change:data", again);
      again();
      return () => { model.off("change:data", again); close(); };
    },
  };
}

const arrow = (text) => text.replaceAll("->", "\u2192");
