// The views that are tables and lists: kernels, passes, compiles.

// Kernels ------------------------------------------------------------------------------------------

const COLUMNS = [
  ["Kernel", (k) => k.name, (k) => [el("span", { class: `dot ${kernelClass(k)}` }), el("span", { class: "mono" }, k.name)]],
  ["Time", (k) => k.seconds || 0, (k) => time(k.seconds)],
  ["Share", (k) => k.seconds || 0, (k) => (k.seconds ? [percent(k.seconds / state.data.summary.seconds), meter(k.seconds / table.most)] : "–")],
  ["Bytes", (k) => k.read + k.written, (k) => bytes(k.read + k.written)],
  ["Flops", (k) => k.flops, (k) => count(k.flops)],
  ["GFLOP/s", (k) => rate(k.flops, k), (k) => (k.seconds ? rate(k.flops, k).toFixed(1) : "–")],
  ["GB/s", (k) => rate(k.read + k.written, k), (k) => (k.seconds ? rate(k.read + k.written, k).toFixed(1) : "–")],
  ["Of the limit", (k) => nearness(k), (k) => (k.seconds ? [percent(nearness(k)), meter(nearness(k), true)] : "–")],
  ["Chunks", (k) => k.chunks, (k) => k.chunks || "–"],
  ["Lines", (k) => placesOf(k)[0] || "", (k) => { const l = placesOf(k); return el("span", { class: "soft" }, l.slice(0, 2).join(", ") + (l.length > 2 ? ` +${l.length - 2}` : "")); }],
];
const table = { by: 1, down: true, most: 1 };
const rate = (amount, k) => (k.seconds ? amount / k.seconds / 1e9 : 0);
const nearness = (k) => (k.seconds && k.least ? k.least / k.seconds : 0);
const meter = (part, good) => el("span", { class: good ? "meter good" : "meter" }, el("i", { style: `width: ${(100 * Math.min(1, part)).toFixed(1)}%` }));

function showKernels(view) {
  const { kernels } = state.data;
  table.most = Math.max(1e-12, ...kernels.map((k) => k.seconds || 0));
  const value = COLUMNS[table.by][1];
  const sorted = [...kernels].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.id - b.id));
  if (table.down) sorted.reverse();
  const head = COLUMNS.map(([label], i) => el("th", {
    "aria-sort": table.by === i ? (table.down ? "descending" : "ascending") : null,
    click: () => { table.down = table.by === i ? !table.down : i !== 0; table.by = i; showKernels(view); },
  }, label));
  const rows = sorted.map((k) => el("tr", { "data-kernel": k.id, click: () => choose("kernel", k.id) }, COLUMNS.map(([, , show]) => el("td", {}, show(k)))));
  view.replaceChildren(
    ...(state.data.summary.seconds ? [roofline(view)] : []),
    el("table", { id: "kernels" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
  markRows();
}

function markRows() {
  const { kernels } = related(state.chosen);
  for (const node of $("view").querySelectorAll("tr[data-kernel], .mark[data-kernel]")) node.classList.toggle("on", kernels.has(Number(node.dataset.kernel)));
  for (const plot of $("view").querySelectorAll("svg.plot")) plot.classList.toggle("chosen", kernels.size > 0);
}

// Passes -------------------------------------------------------------------------------------------

const CONTEXT = 3;
const passView = { at: 1, graph: -1 };

async function showPasses(view) {
  const passes = await passesOf();
  if (state.tab !== "passes") return;
  if (passView.graph !== state.graph) {
    passView.graph = state.graph;
    passView.at = Math.max(1, passes.findIndex((p, i) => i && p.added + p.removed));
  }
  const buttons = passes.slice(1).map((pass, i) => el("button", {
    "data-pass": pass.name, "aria-selected": String(passView.at === i + 1),
    click: () => { passView.at = i + 1; showPasses(view); },
  }, el("span", {}, pass.name), el("span", { class: "soft" }, time(pass.seconds)),
  el("small", {}, pass.added + pass.removed ? `+${pass.added} −${pass.removed}` : "no change")));
  const loops = passes.findIndex((pass) => pass.level === "loops");
  if (loops > 0) buttons.splice(loops - 1, 0, el("h3", {}, "Loops"));
  buttons.unshift(el("h3", {}, "Graph"));
  const scroll = view.querySelector("nav")?.scrollTop || 0;
  const chosen = passes[passView.at];
  view.replaceChildren(el("div", { class: "passes" }, el("nav", {}, buttons), difference(chosen.before || passes[passView.at - 1], chosen)));
  view.querySelector("nav").scrollTop = scroll;
  markPasses();
}

// Two texts side by side; what is equal on both sides is folded, but for some lines around.
function difference(before, after) {
  const out = el("div", { class: "diff" });
  out.append(el("div", { class: "two bar", style: "padding: 0" }, el("div", { class: "cell" }, `before: ${before.name}`), el("div", { class: "cell", style: "margin: 0" }, `after: ${after.name}`)));
  if (!after.added && !after.removed) {
    out.append(el("div", { class: "empty" }, `${after.name} changed nothing in this graph.`));
    return out;
  }
  const pair = (i, j, left, right) => el("div", { class: "two" }, cell(before, i, left), cell(after, j, right));
  after.spans.forEach(([tag, i1, i2, j1, j2], at) => {
    if (tag !== "equal") {
      // What comes from the same operation stands side by side.
      let i = i1, j = j1;
      while (i < i2 || j < j2) {
        const left = i < i2 ? before.origins[i] : Infinity, right = j < j2 ? after.origins[j] : Infinity;
        out.append(pair(left <= right ? i : -1, right <= left ? j : -1, "del", "add"));
        if (left <= right) i += 1;
        if (right <= left) j += 1;
      }
      return;
    }
    const head = at ? CONTEXT : 0, tail = at + 1 < after.spans.length ? CONTEXT : 0, length = i2 - i1;
    const rows = (from, to) => { const made = document.createDocumentFragment(); for (let n = from; n < to; n += 1) made.append(pair(i1 + n, j1 + n)); return made; };
    if (length <= head + tail + 2) { out.append(rows(0, length)); return; }
    const more = el("button", { class: "more", click: () => { more.replaceWith(rows(head, length - tail)); markPasses(); } }, `${length - head - tail} equal lines`);
    out.append(rows(0, head), more, rows(length - tail, length));
  });
  return out;
}

function cell(stage, line, changed) {
  if (line < 0) return el("div", { class: "cell" });
  const op = stage.origins[line];
  return el("div", {
    class: changed ? `cell ${changed}` : "cell", title: stage.lines[line].trim(), "data-op": op >= 0 ? op : null,
    click: op >= 0 ? () => choose("op", op) : null,
  }, stage.lines[line]);
}

function markPasses() {
  const { ops } = related(state.chosen);
  for (const node of $("view").querySelectorAll(".diff [data-op]")) node.classList.toggle("on", ops.has(Number(node.dataset.op)));
}

// Compiles -----------------------------------------------------------------------------------------

let recompiles = null;
const SOURCES = { compiled: "compiled", disk: "loaded from disk", dynamic: "served by code for many sizes", "interpreted once": "interpreted once", underway: "interpreted while it is compiled" };

async function showCompiles(view) {
  recompiles ||= await unpack("recompiles");
  if (state.tab !== "compiles") return;
  const { totals, events, recompiled, compile_seconds: seconds, left_out: leftOut } = recompiles;
  const summary = `${totals.compiled} compiled in ${time(seconds)}, ${totals.disk} loaded from disk, ${totals.dynamic} served by code for many sizes, ${totals["interpreted once"]} interpreted once.`;
  view.replaceChildren(el("div", { class: "events" },
    el("p", {}, summary),
    HEAD.notes.map((note) => el("p", { class: "soft" }, note)),
    recompiled.map(([line, n]) => el("p", {}, `Compiled ${n} times: `, el("code", {}, line))),
    leftOut ? el("p", { class: "soft" }, `${leftOut} earlier events are left out.`) : null,
    events.length ? null : el("p", { class: "soft" }, "This program has run no graph: it was only looked at."),
    events.map((e) => el("div", { class: "event", "data-event": e.number },
      el("span", { class: "soft" }, `#${e.number}`),
      el("span", {}, el("b", {}, SOURCES[e.source]), ` · ${e.operations} operations${e.kernels ? `, ${e.kernels} kernels` : ""} · `, el("span", { class: "mono soft" }, [...new Set([e.first, e.last])].filter(Boolean).map(baseName).join(" to "))),
      el("span", { class: "soft" }, e.seconds ? time(e.seconds) : ""),
      el("span", { class: "why" }, `new: ${e.difference}${e.sizes ? ` · ${e.sizes}` : ""}${e.beside ? ` · ${e.beside} runs interpreted meanwhile` : ""}`)))));
}
