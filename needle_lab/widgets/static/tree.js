// The signature tree: rows in reading order; folding and search only decide which of them are in view.

const [PARENT, DEPTH, KIND, PATH, NAME, TYPE, FAMILY, SHAPE, PARAMS, SHARE, NOTE, COUNT] = Array(12).keys();

function draw(el, data, tell) {
  const rows = data.rows, inside = new Set(rows.map((r) => r[PARENT])), open = new Set(data.open);
  const f = frame(el, "tree", data.title, data.summary, [
    ["\u2190\u2191\u2192\u2193", "move"], ["/", "search"], ["e", "expand all"], ["c", "collapse all"],
  ], data.families);
  const place = positions(rows);
  const box = make("div", "ndl-box", "", { role: "tree", tabindex: "0", "aria-label": `modules of ${data.title}` });
  const widest = rows.reduce((n, r) => Math.max(n, r[SHAPE].length), 10);
  f.root.style.setProperty("--shape", `${widest}ch`);
  f.root.style.setProperty("--names", `${data.names}px`);
  box.append(header(rows.some((r) => r[SHAPE].includes("->"))));
  f.body.append(box);

  let visible = [], spot = new Map();       // rows in view, and where each of them stands
  const list = new Rows(box, { role: "treeitem", create, patch, chosen });
  const search = new Search(f.tools, {
    label: "search", home: box,
    find: (text) => rows.flatMap((r, i) => (r[KIND] !== "fold" && `${r[PATH]} ${r[TYPE]}`.toLowerCase().includes(text) ? [i] : [])),
    go: reveal, changed: () => list.paint(),
  });
  button(f.tools, "expand", "expand all (e)", () => all(true));
  button(f.tools, "collapse", "collapse all (c)", () => all(false));

  function flatten() {
    visible = [];
    for (let i = 0, hidden = Infinity; i < rows.length; i++) {
      if (rows[i][DEPTH] > hidden) continue;
      hidden = inside.has(i) && !open.has(i) ? rows[i][DEPTH] : Infinity;
      visible.push(i);
    }
    spot = new Map(visible.map((i, k) => [i, k]));
    list.resize(visible.length);
  }
  function toggle(i, wanted = !open.has(i)) {
    if (!inside.has(i)) return;
    if (wanted) open.add(i); else open.delete(i);
    flatten();
  }
  function all(wanted) {
    let i = visible[list.at];
    open.clear();
    if (wanted) for (const k of inside) open.add(k); else { open.add(0); while (rows[i][DEPTH] > 1) i = rows[i][PARENT]; }
    flatten();
    list.go(spot.get(i) ?? 0);
  }
  function reveal(i) {
    for (let up = rows[i][PARENT]; up >= 0; up = rows[up][PARENT]) open.add(up);
    flatten();
    list.go(spot.get(i));
  }
  function chosen(k) {
    const r = rows[visible[k]], path = r[PATH] || "model";
    const isModule = r[KIND] === "module" || r[KIND] === "fold", many = r[COUNT] > 1 ? `${r[COUNT]} of equal structure, each ` : "";
    f.detail.replaceChildren(make("b", "", path), "  ", arrow(r[SHAPE]), make("br"),
                             make("span", "", isModule ? `${many}${r[TYPE]}(${r[NOTE]})` : `${r[TYPE]}, ${r[NOTE]}`));
    tell(r[PATH]);
  }
  function create() {
    const e = make("div"), name = make("span", "ndl-name"), share = make("span", "ndl-share"), bar = make("span", "ndl-bar");
    name.append(make("span", "ndl-tw"), make("span", "ndl-g"), make("span", "ndl-id"), make("em"), make("i"));
    bar.append(make("u"));
    share.append(bar, make("span", "ndl-pct"));
    e.append(name, make("span", "ndl-shape"), make("span", "ndl-num"), share);
    return e;
  }
  function patch(e, k) {
    const i = visible[k], r = rows[i], [name, shape, params, share] = e.children, [twist, glyph, id, times, type] = name.children;
    const expands = inside.has(i);
    if (e.dataset.i !== String(i)) {
      e.dataset.i = i;
      e.title = r[NOTE];
      e.setAttribute("aria-level", r[DEPTH] + 1);
      e.setAttribute("aria-posinset", place[i][0]);
      e.setAttribute("aria-setsize", place[i][1]());
      e.setAttribute("aria-label", `${r[NAME]}: ${r[TYPE]}${r[COUNT] > 1 ? ` times ${r[COUNT]}` : ""} ${r[SHAPE]}${r[PARAMS] ? `, ${r[PARAMS].toLocaleString("en")} parameters` : ""}`);
      name.className = `ndl-name ${r[KIND]}`;
      name.style.paddingLeft = `${r[DEPTH] * 16 + 4}px`;
      name.style.setProperty("--depth", r[DEPTH]);
      twist.className = expands ? "ndl-tw" : "ndl-tw none";
      glyph.className = `ndl-g ${r[FAMILY]}`;
      glyph.textContent = r[FAMILY] ? data.families[r[FAMILY]].glyph : "";
      times.style.display = r[COUNT] > 1 ? "" : "none";
      times.textContent = `\u00d7${r[COUNT]}`;
      shape.textContent = arrow(r[SHAPE]);
      shape.title = r[SHAPE];
      params.textContent = r[PARAMS] ? r[PARAMS].toLocaleString("en") : "";
      share.style.visibility = r[PARAMS] ? "" : "hidden";
      share.firstChild.firstChild.style.width = `${100 * r[SHARE]}%`;
      share.lastChild.textContent = `${(100 * r[SHARE]).toFixed(1)}%`;
    }
    mark(id, r[NAME], search.text);
    mark(type, r[KIND] === "parameter" ? r[NOTE] : r[TYPE], search.text);
    if (expands) e.setAttribute("aria-expanded", open.has(i)); else e.removeAttribute("aria-expanded");
  }

  box.addEventListener("click", (event) => {
    const e = event.target.closest("[role=treeitem]");
    if (!e) return;
    list.go(+e.dataset.k);
    if (event.target.classList.contains("ndl-tw")) toggle(+e.dataset.i);
  });
  box.addEventListener("dblclick", (event) => {
    const e = event.target.closest("[role=treeitem]");
    if (e && !event.target.classList.contains("ndl-tw")) toggle(+e.dataset.i);
  });
  const here = () => visible[list.at];
  onKeys(f.root, {
    ...list.keys(),
    ArrowRight: () => { if (!inside.has(here())) return; if (open.has(here())) list.go(list.at + 1); else toggle(here(), true); },
    ArrowLeft: () => { if (inside.has(here()) && open.has(here())) toggle(here(), false); else if (rows[here()][PARENT] >= 0) list.go(spot.get(rows[here()][PARENT])); },
    Enter: () => toggle(here()), " ": () => toggle(here()),
    e: () => all(true), c: () => all(false), "/": () => search.focus(),
    n: () => search.step(1), p: () => search.step(-1),
  });
  flatten();
  chosen(0);
  return () => list.close();
}

function header(flows) {
  const e = make("div", "ndl-row ndl-cols", "", { role: "presentation" });
  e.append(make("span", "", "name, type"), make("span", "", flows ? "in \u2192 out" : "shape"), make("span", "ndl-num", "parameters"),
           make("span", "", "share"));
  return e;
}

/** For each row: its place among its siblings, and a function that says how many there are. */
function positions(rows) {
  const seen = new Map();
  return rows.map((r) => {
    const n = (seen.get(r[PARENT]) || 0) + 1;
    seen.set(r[PARENT], n);
    return [n, () => seen.get(r[PARENT])];
  });
}

export default view(draw);
