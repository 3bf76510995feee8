// Two architectures side by side. Equal stretches fold into one line; n and p go from difference to difference.

const [KIND, DEPTH, PATH_A, PATH_B, REASON, LEFT, RIGHT] = Array(7).keys();

function draw(el, data, tell) {
  const rows = data.rows;
  const stretches = data.runs, opened = new Set();          // [start, stop, label]; longer than one row: can fold
  const differing = stretches.reduce((n, [start, stop]) => n + (rows[start][KIND] !== "same" && stop - start === 1), 0);
  const f = frame(el, "diff", `${differing.toLocaleString("en")} difference${differing === 1 ? "" : "s"}`, "", [
    ["n", "next"], ["p", "previous difference"], ["o", "only changes"], ["e", "unfold"], ["c", "fold"], ["/", "search"],
  ]);
  const verdict = make("div", `ndl-verdict ${data.tone}`, "", { role: "status" });
  verdict.append(make("b", "", `${data.sign} ${data.verdict}`), make("span", "", data.sentence));
  f.head.before(verdict);
  f.foot.prepend(counts(data));

  const box = make("div", "ndl-box", "", { role: "treegrid", tabindex: "0", "aria-label": `differences of ${data.titles.join(" and ")}`, "aria-colcount": 3 });
  box.append(header(data));
  f.body.append(box);

  let only = false, visible = [];            // visible: a row's index, or a folded stretch
  const list = new Rows(box, { role: "row", create, patch, chosen });
  const search = new Search(f.tools, {
    label: "search", home: box, go: reveal, changed: () => list.paint(),
    find: (text) => rows.flatMap((r, i) => (words(r).includes(text) ? [i] : [])),
  });
  button(f.tools, "\u2191", "previous difference (p)", () => jump(-1));
  button(f.tools, "\u2193", "next difference (n)", () => jump(1));
  const toggle = button(f.tools, "only changes", "hide equal rows (o)", () => setOnly(!only));
  toggle.setAttribute("aria-pressed", "false");

  function flatten(keep = -1) {
    visible = [];
    for (const run of stretches) {
      const [start, stop] = run, foldable = stop - start > 1;
      if (only && rows[start][KIND] === "same" && !leads(start)) continue;
      if (foldable && !opened.has(start)) visible.push(run);
      else for (let i = start; i < stop; i++) visible.push(i);
    }
    list.resize(visible.length);
    if (keep >= 0) list.go(where(keep));
  }
  /** Whether an equal row is the ancestor of a difference (then it stays, as its context). */
  function leads(i) {
    for (let k = i + 1; k < rows.length && rows[k][DEPTH] > rows[i][DEPTH]; k++) if (rows[k][KIND] !== "same") return true;
    return false;
  }
  function where(i) {
    const k = visible.findIndex((v) => (Array.isArray(v) ? v[0] <= i && i < v[1] : v >= i));
    return k < 0 ? visible.length - 1 : k;
  }
  const first = (k) => (Array.isArray(visible[k]) ? visible[k][0] : visible[k]);
  function reveal(i) {
    const run = stretches.find(([start, stop]) => start <= i && i < stop);
    opened.add(run[0]);
    if (only && rows[i][KIND] === "same") setOnly(false);
    flatten(i);
  }
  function setOnly(wanted) {
    const i = first(list.at);
    only = wanted;
    toggle.setAttribute("aria-pressed", String(only));
    flatten(i);
  }
  function jump(step) {
    for (let k = list.at + step; k >= 0 && k < visible.length; k += step) {
      if (!Array.isArray(visible[k]) && rows[visible[k]][KIND] !== "same") { list.go(k); return; }
    }
  }
  function all(wanted) {
    const i = first(list.at);
    opened.clear();
    if (wanted) for (const [start] of stretches) opened.add(start);
    flatten(i);
  }
  function unfold() { const v = visible[list.at]; if (Array.isArray(v)) { opened.add(v[0]); flatten(v[0]); } }
  function fold() {
    const i = visible[list.at], run = !Array.isArray(i) && stretches.find(([start, stop]) => start <= i && i < stop);
    if (run && run[1] - run[0] > 1) { opened.delete(run[0]); flatten(run[0]); }
  }
  function chosen(k) {
    const v = visible[k];
    if (Array.isArray(v)) { f.detail.replaceChildren(make("span", "", `${v[2]}: Enter or \u2192 unfolds them`)); return; }
    const r = rows[v], path = r[PATH_A] === r[PATH_B] ? r[PATH_A] || "model" : [r[PATH_A], r[PATH_B]].filter(Boolean).join(" | ");
    f.detail.replaceChildren(make("b", "", path), "  ", make("span", "", r[KIND] === "same" ? "equal" : `${r[KIND]}: ${r[REASON]}`));
    tell(r[PATH_A] || r[PATH_B]);
  }
  function create() {
    const e = make("div");
    e.append(make("span", "ndl-kind", "", { role: "gridcell" }), half("a"), half("b"));
    return e;
  }
  function half(which) {
    const e = make("span", `ndl-half ${which}`, "", { role: "gridcell" });
    e.append(make("span", "ndl-name"), make("span", "ndl-shape"));
    return e;
  }
  function patch(e, k) {
    const v = visible[k], folded = Array.isArray(v), [kind, left, right] = e.children;
    const key = `${folded ? `${v[0]}-${v[1]}` : v}|${search.text}`;
    if (e.dataset.key === key) return;
    e.dataset.key = key;
    e.setAttribute("aria-rowindex", k + 2);
    e.setAttribute("aria-level", rows[folded ? v[0] : v][DEPTH] + 1);
    right.style.display = folded ? "none" : "";
    if (folded) {
      e.className = "ndl-row ndl-fold";
      e.title = "Enter unfolds";
      e.setAttribute("aria-expanded", "false");
      kind.textContent = "";
      left.className = "ndl-half";
      left.style.paddingLeft = "";
      left.firstChild.textContent = `\u22ef ${v[2]}`;
      left.lastChild.textContent = "";
      return;
    }
    const r = rows[v];
    e.className = `ndl-row ${r[KIND]}`;
    e.title = r[REASON] || "";
    e.removeAttribute("aria-expanded");
    kind.textContent = r[KIND] === "same" ? "" : data.glyph[r[KIND]];
    kind.setAttribute("aria-label", r[KIND]);
    fill(left, r[LEFT], r[DEPTH], "a");
    fill(right, r[RIGHT], r[DEPTH], "b");
  }
  function fill(e, half, depth, which) {
    const [name, shape] = e.children;
    e.className = `ndl-half ${which}${half ? "" : " none"}`;
    e.style.paddingLeft = half ? `${depth * 16 + 6}px` : "";
    if (!half) { name.textContent = shape.textContent = ""; return; }
    name.replaceChildren(make("span", `ndl-g ${half.family}`, half.family ? data.families[half.family].glyph : ""), ...pieces(half.name));
    shape.replaceChildren(...pieces(half.shape));
    mark(name.children[1], half.name[0][1], search.text);
  }
  box.addEventListener("click", (event) => {
    const e = event.target.closest("[role=row]");
    if (!e || e.dataset.k === undefined) return;
    list.go(+e.dataset.k);
    if (e.classList.contains("ndl-fold")) unfold();
  });
  onKeys(f.root, {
    ...list.keys(),
    ArrowRight: unfold, Enter: unfold, " ": unfold, ArrowLeft: fold,
    n: () => jump(1), p: () => jump(-1), o: () => setOnly(!only), e: () => all(true), c: () => all(false),
    "/": () => search.focus(),
  });
  flatten();
  const start = visible.findIndex((v) => !Array.isArray(v) && rows[v][KIND] !== "same");
  if (start >= 0) { list.at = start; list.paint(); chosen(start); } else chosen(0);
  return () => list.close();
}

function header(data) {
  const e = make("div", "ndl-row ndl-cols", "", { role: "row", "aria-rowindex": 1 });
  e.append(make("span", "ndl-kind", "", { role: "columnheader", "aria-label": "difference" }));
  data.titles.forEach((title, i) => e.append(columnHead("AB"[i], title)));
  return e;
}

function columnHead(letter, title) {
  const e = make("span", `ndl-half ${letter.toLowerCase()}`, "", { role: "columnheader" });
  e.append(make("b", "", letter), title);
  return e;
}

function counts(data) {
  const box = make("div", "ndl-legend");
  for (const [kind, n] of Object.entries(data.counts)) {
    const item = make("span");
    item.append(make("b", `ndl-kind ${kind}`, data.glyph[kind]), ` ${n.toLocaleString("en")} ${kind}`);
    box.append(item);
  }
  return box;
}

const pieces = (list) => list.map(([kind, text]) => make("span", `ndl-${kind}`, text));

const words = (r) => [r[PATH_A], r[PATH_B], r[REASON], ...[r[LEFT], r[RIGHT]].flatMap((half) => (half ? half.name.map((p) => p[1]) : []))].join(" ").toLowerCase();

export default view(draw);
