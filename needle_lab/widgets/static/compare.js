// Two models on one input: a row for each pair of layers, and below the table what the selected pair looks like.

const [PATH_A, PATH_B, TYPE_A, TYPE_B, FAMILY, SHAPE, ABSOLUTE, RELATIVE, PLACE, BEYOND, PICTURE] = Array(11).keys();
const VALUES = [[0, 32, 76], [124, 123, 120], [255, 234, 70]];           // as cividis: the same for every eye
const A = "var(--linear)", B = "var(--activation)";
const ERRORS = [[255, 255, 255], [213, 94, 0]];

function draw(el, data, tell) {
  const rows = data.rows, many = rows.some((r) => r[BEYOND]);
  const f = frame(el, "compare", "", data.summary, [
    ["\u2191\u2193", "move"], ["n", "next"], ["p", "previous beyond the tolerance"], ["/", "search"],
  ], data.families);
  const names = data.names.map((name, i) => { const e = make("span"); e.append(make("b", "", "AB"[i]), ` ${name}`); return e; });
  f.head.firstChild.replaceWith(...names);
  const verdict = make("div", `ndl-verdict ${data.tone}`, "", { role: "status" });
  verdict.append(make("b", "", many ? "\u2715" : "\u2713"), make("span", "", data.sentence));
  f.head.before(verdict);
  const widest = rows.reduce((n, r) => Math.max(n, r[SHAPE].length), 6);
  f.root.style.setProperty("--shape", `${widest}ch`);
  const box = make("div", "ndl-box", "", { role: "grid", tabindex: "0", "aria-label": `layers of ${data.names.join(" and ")}`, "aria-rowcount": rows.length + 1 });
  box.append(header(data));
  f.body.append(box);

  const list = new Rows(box, { role: "row", create, patch, chosen });
  const search = new Search(f.tools, {
    label: "search", home: box, go: (i) => list.go(i), changed: () => list.paint(),
    find: (text) => rows.flatMap((r, i) => (r.slice(0, 4).join(" ").toLowerCase().includes(text) ? [i] : [])),
  });
  function create() {
    const e = make("div"), name = make("span", "ndl-name"), bar = make("span", "ndl-log"), tick = make("s");
    tick.style.left = `${100 * data.tick}%`;
    bar.append(make("u"), tick);
    name.append(make("span", "ndl-g"), make("span", "ndl-id"), make("i"));
    e.append(name, make("span", "ndl-shape"), make("span", "ndl-num"), make("span", "ndl-num"), bar);
    for (const cell of e.children) cell.setAttribute("role", "gridcell");
    return e;
  }
  function patch(e, k) {
    const r = rows[k], [name, shape, absolute, relative, bar] = e.children;
    if (e.dataset.i !== String(k)) {
      e.dataset.i = k;
      e.classList.toggle("beyond", r[BEYOND]);
      e.setAttribute("aria-rowindex", k + 2);
      e.title = `A ${r[PATH_A]} (${r[TYPE_A]})\nB ${r[PATH_B]} (${r[TYPE_B]})`;
      name.firstChild.className = `ndl-g ${r[FAMILY]}`;
      name.firstChild.textContent = data.families[r[FAMILY]].glyph;
      name.lastChild.textContent = r[PATH_A] === r[PATH_B] ? r[TYPE_A] : `${r[TYPE_A]}  |  ${r[PATH_B]} ${r[TYPE_B]}`;
      shape.textContent = r[SHAPE];
      absolute.textContent = r[ABSOLUTE];
      relative.textContent = r[RELATIVE];
      bar.firstChild.style.width = `${100 * r[PLACE]}%`;
    }
    mark(name.children[1], r[PATH_A], search.text);
  }
  function chosen(k) {
    const parts = make("div", "ndl-parts");
    parts.append(part(rows[k]));
    if (data.output >= 0 && data.output !== k) parts.append(part(rows[data.output], "output: "));
    f.detail.replaceChildren(parts);
    tell(rows[k][PATH_A]);
  }
  /** One layer as pictures, under its name. */
  function part(r, prefix = "") {
    const p = r[PICTURE], e = make("div"), plots = make("div", "ndl-plots");
    if (p.kind === "bars") plots.append(bars(p));
    else for (const [key, title] of [["a", `A  ${p.low} .. ${p.high}`], ["b", "B  same scale"], ["d", `|A\u2212B|  0 .. ${p.worst}`]]) {
      const figure = make("figure");
      figure.append(heat(p, key), make("figcaption", "", title));
      plots.append(figure);
    }
    e.append(make("b", "", prefix + (r[PATH_A] === r[PATH_B] ? r[PATH_A] : `${r[PATH_A]} | ${r[PATH_B]}`)),
      make("span", "", `  ${p.where || r[SHAPE]}`), plots);
    e.title = "the part of the layer in which the largest error is";
    return e;
  }
  const jump = (step) => () => { for (let k = list.at + step; k >= 0 && k < rows.length; k += step) if (rows[k][BEYOND]) { list.go(k); return; } };
  box.addEventListener("click", (event) => {
    const e = event.target.closest("[role=row]");
    if (e && e.dataset.k !== undefined) list.go(+e.dataset.k);
  });
  onKeys(f.root, { ...list.keys(), n: jump(1), p: jump(-1), "/": () => search.focus() });
  list.resize(rows.length);
  const first = rows.findIndex((r) => r[BEYOND]);
  list.at = first >= 0 ? first : rows.length - 1;
  list.paint();
  chosen(list.at);
  return () => list.close();
}

function header(data) {
  const e = make("div", "ndl-row ndl-cols", "", { role: "row", "aria-rowindex": 1 });
  for (const [cls, text] of [["", "layer"], ["", "shape"], ["ndl-num", "max |A\u2212B|"], ["ndl-num", "\u00f7 max |B|"], ["", `1e-8 \u2026 1 (log), \u250a ${data.tolerance}`]])
    e.append(make("span", cls, text, { role: "columnheader" }));
  return e;
}

/** Pairs of bars about zero; A filled, B striped, so that colour is not the only difference. */
function bars({ a, b }) {
  const high = Math.max(0, ...a, ...b), low = Math.min(0, ...a, ...b), unit = 130 / (high - low || 1), zero = 8 + high * unit;
  const step = 26, width = Math.max(a.length * step + 8, 170), id = `b${Math.random().toString(36).slice(2, 8)}`;
  const shape = (tag, attributes) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v); return e; };
  const svg = shape("svg", { viewBox: `0 0 ${width} 180`, width, height: 180, role: "img", "aria-label": "outputs of A and B as bars" });
  const pattern = shape("pattern", { id, width: 4, height: 4, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(shape("rect", { width: 4, height: 4, fill: "#fff" }), shape("rect", { width: 2.4, height: 4, style: `fill:${B}` }));
  const label = (x, y, text, anchor = "middle") => { const e = shape("text", { x, y, "text-anchor": anchor }); e.textContent = text; return e; };
  svg.append(pattern, shape("line", { x1: 0, x2: width, y1: zero, y2: zero, stroke: "#999" }));
  a.forEach((_, i) => {
    [a[i], b[i]].forEach((value, k) => {
      const bar = shape("rect", { x: 4 + i * step + 10 * k, y: zero - Math.max(value, 0) * unit, width: 9, height: Math.abs(value) * unit,
        style: k ? `fill:url(#${id});stroke:${B}` : `fill:${A}`, "stroke-width": 0.5 });
      const tip = shape("title", {});
      tip.textContent = `${"AB"[k]}[${i}] = ${value}`;
      bar.append(tip);
      svg.append(bar);
    });
    svg.append(label(4 + i * step + 9, 154, i));
  });
  svg.append(shape("rect", { x: 4, y: 164, width: 10, height: 10, style: `fill:${A}` }), label(19, 173, "A", "start"),
    shape("rect", { x: 44, y: 164, width: 10, height: 10, style: `fill:url(#${id});stroke:${B}` }), label(59, 173, "B", "start"));
  return svg;
}

function heat({ rows, columns, ...p }, key) {
  const canvas = make("canvas", "", "", { width: columns, height: rows, role: "img", "aria-label": `heat map of ${key}` });
  const bytes = Uint8Array.from(atob(p[key]), (c) => c.charCodeAt(0)), stops = key === "d" ? ERRORS : VALUES;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  bytes.forEach((v, i) => {
    const place = v / 255 * (stops.length - 1), k = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = stops[k][c] + (place - k) * (stops[k + 1][c] - stops[k][c]);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

export default view(draw);
