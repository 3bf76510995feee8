// A drawn graph: graphviz made the picture; here it zooms, pans, follows values and shows what a node holds.

const [ID, TITLE, FAMILY, LINES, DETAILS] = Array(5).keys();

function draw(el, data, tell) {
  const f = frame(el, "graph", data.title, data.summary, [
    ["\u2190\u2191\u2192\u2193", "follow values"], ["n", "next"], ["p", "previous"], ["+ -", "zoom"], ["0", "fit"], ["/", "search"],
  ], data.families);
  if (data.note) f.head.after(make("p", "ndl-more", data.note));
  if (!data.svg) {
    f.body.append(make("p", "ndl-more", data.install), make("pre", "ndl-dot", data.dot));
    return () => {};
  }
  const canvas = make("div", "ndl-canvas", "", { role: "listbox", tabindex: "0", "aria-label": `nodes of ${data.title}` });
  canvas.innerHTML = data.svg;
  f.body.append(canvas);
  const svg = canvas.querySelector("svg"), natural = svg.viewBox.baseVal, points = 4 / 3;
  const prefix = `ndl${Math.random().toString(36).slice(2, 9)}`;

  const after = new Map(), before = new Map(), lines = new Map();        // neighbours, and the arrows of a node
  const note = (map, key, value) => map.set(key, [...(map.get(key) || []), value]);
  const spots = new Map(data.boxes.map((b, i) => [b[ID], i]));
  data.arrows.forEach(([a, b], i) => {
    note(after, spots.get(a), spots.get(b));
    note(before, spots.get(b), spots.get(a));
    const line = svg.getElementById(`e${i}`);
    line.id = `${prefix}-e${i}`;
    for (const end of [a, b]) note(lines, spots.get(end), line);
  });
  const nodes = data.boxes.map((b, i) => {
    const g = svg.getElementById(b[ID]);
    g.id = `${prefix}-${i}`;
    g.setAttribute("role", "option");
    g.setAttribute("aria-label", [b[TITLE], ...b[LINES]].join(", "));
    g.setAttribute("aria-selected", "false");
    g.addEventListener("click", () => { if (!moved) select(i); });
    return g;
  });

  let at = -1, zoom = 1, moved = false;
  const search = new Search(f.tools, {
    label: "search", home: canvas, go: (i) => select(i),
    find: (text) => data.boxes.flatMap((b, i) => (b.flat(3).join(" ").toLowerCase().includes(text) ? [i] : [])),
    changed: () => nodes.forEach((g, i) => g.classList.toggle("hit", search.hits.includes(i))),
  });
  button(f.tools, "+", "zoom in (+)", () => scale(zoom * 1.25));
  button(f.tools, "\u2212", "zoom out (-)", () => scale(zoom / 1.25));
  button(f.tools, "fit", "fit the width (0)", () => fit());

  /** Zoom about the middle of what is in view. */
  function scale(wanted) {
    const old = zoom, { scrollLeft: x, scrollTop: y, clientWidth: w, clientHeight: h } = canvas;
    zoom = Math.max(0.1, Math.min(4, wanted));
    svg.style.width = `${natural.width * points * zoom}px`;
    svg.style.height = `${natural.height * points * zoom}px`;
    canvas.scrollLeft = (x + w / 2) * zoom / old - w / 2;
    canvas.scrollTop = (y + h / 2) * zoom / old - h / 2;
  }
  function fit(least = 0) {
    scale(Math.min(1, Math.max(((canvas.clientWidth || 680) - 20) / (natural.width * points), least)));
  }
  function select(i, quietly = false) {
    if (at >= 0) {
      nodes[at].classList.remove("at");
      nodes[at].setAttribute("aria-selected", "false");
      for (const e of lines.get(at) || []) e.classList.remove("at");
    }
    at = i;
    nodes[i].classList.add("at");
    nodes[i].setAttribute("aria-selected", "true");
    for (const e of lines.get(i) || []) e.classList.add("at");
    canvas.setAttribute("aria-activedescendant", nodes[i].id);
    if (!quietly) show(nodes[i]);
    const box = data.boxes[i], list = make("div", "ndl-facts");
    for (const [key, value] of [...box[LINES].map((line) => ["holds", line]), ...box[DETAILS]]) {
      if (value !== "") list.append(make("span", "", key), make("div", "", value));
    }
    f.detail.replaceChildren(...(box[FAMILY] ? [make("span", `ndl-g ${box[FAMILY]}`, data.families[box[FAMILY]].glyph), " "] : []), make("b", "", box[TITLE]), list);
    tell(box[ID]);
  }
  /** Scroll the canvas alone, not the notebook, until the node is in view. */
  function show(g) {
    const a = g.getBoundingClientRect(), b = canvas.getBoundingClientRect(), edge = 24;
    if (a.left < b.left + edge || a.right > b.right - edge) canvas.scrollLeft += a.left + a.width / 2 - b.left - b.width / 2;
    if (a.top < b.top + edge || a.bottom > b.bottom - edge) canvas.scrollTop += a.top + a.height / 2 - b.top - b.height / 2;
  }
  const follow = (map) => () => { const next = (map.get(at) || [])[0]; if (next !== undefined) select(next); };
  /** Another consumer of the same value, or another input of the same node. */
  function sideways(step) {
    for (const [up, down] of [[before, after], [after, before]]) {
      const beside = [...new Set((up.get(at) || []).flatMap((k) => down.get(k) || []))].sort((a, b) => a - b);
      const k = beside.indexOf(at) + step;
      if (beside[k] !== undefined && beside.length > 1) { select(beside[k]); return; }
    }
  }
  const step = (by) => () => select(Math.max(0, Math.min(nodes.length - 1, at + by)));
  const [forward, back, more, less] = data.right ? ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"]
                                                 : ["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft"];
  onKeys(f.root, {
    [forward]: follow(after), [back]: follow(before), [more]: () => sideways(1), [less]: () => sideways(-1),
    n: step(1), p: step(-1), Home: () => select(0), End: () => select(nodes.length - 1),
    "+": () => scale(zoom * 1.25), "=": () => scale(zoom * 1.25), "-": () => scale(zoom / 1.25), 0: () => fit(),
    "/": () => search.focus(),
  });

  canvas.addEventListener("pointerdown", (event) => {
    const { clientX: x, clientY: y } = event, { scrollLeft, scrollTop } = canvas;
    moved = false;
    const drag = (e) => {
      if (Math.hypot(e.clientX - x, e.clientY - y) > 4) { moved = true; canvas.classList.add("drag"); }
      canvas.scrollLeft = scrollLeft - (e.clientX - x);
      canvas.scrollTop = scrollTop - (e.clientY - y);
    };
    const drop = () => { window.removeEventListener("pointermove", drag); window.removeEventListener("pointerup", drop); canvas.classList.remove("drag"); };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", drop);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;                        // a plain wheel scrolls, as everywhere
    event.preventDefault();
    scale(zoom * Math.exp(-event.deltaY / 300));
  }, { passive: false });
  const first = new ResizeObserver(() => { if (canvas.clientWidth) { fit(0.8); first.disconnect(); } });
  first.observe(canvas);
  if (nodes.length) select(0, true);
  return () => first.disconnect();
}

export default view(draw);
