// The views that are drawings: the roofline, the memory plan, the times by thread.

// Roofline -----------------------------------------------------------------------------------------

// Each kernel by its arithmetic for each byte and the rate that it reaches; above is the roof.
function roofline(view) {
  const { kernels, summary } = state.data;
  const { limits } = summary;
  const W = Math.max(420, Math.min(980, view.clientWidth - 40)), H = 210, L = 58, B = 30;
  const shown = kernels.filter((k) => k.seconds && k.flops && k.read + k.written);
  const most = Math.max(1e-12, ...shown.map((k) => k.seconds));
  const of = (k) => ({ x: k.flops / (k.read + k.written), y: k.flops / k.seconds });
  const xs = shown.map((k) => of(k).x), ys = shown.map((k) => of(k).y);
  const low = Math.floor(Math.log10(Math.min(0.1, ...xs))), high = Math.ceil(Math.log10(Math.max(100, ...xs)));
  const bottom = Math.floor(Math.log10(Math.max(1e6, Math.min(1e9, ...ys)))), top = Math.log10(Math.max(limits.flops, ...ys)) + 0.12;
  const X = (x) => L + ((Math.log10(x) - low) / (high - low)) * (W - L - 12);
  const Y = (y) => (H - B) - ((Math.log10(Math.max(y, 10 ** bottom)) - bottom) / (top - bottom)) * (H - B - 8);
  const plot = svg("svg", { class: "plot", width: W, height: H, id: "roofline" });
  for (let e = low; e <= high; e += 1) {
    plot.append(svg("line", { class: "axis", x1: X(10 ** e), x2: X(10 ** e), y1: 8, y2: H - B }), svg("text", { x: X(10 ** e), y: H - B + 14, "text-anchor": "middle" }, 10 ** e));
  }
  for (let e = bottom; e <= top; e += 1) {
    plot.append(svg("line", { class: "axis", x1: L, x2: W - 12, y1: Y(10 ** e), y2: Y(10 ** e) }), svg("text", { x: L - 8, y: Y(10 ** e) + 4, "text-anchor": "end" }, `${10 ** (e - 9)}`));
  }
  const ridge = limits.flops / limits.bytes, left = 10 ** low;
  const start = Math.max(left, 10 ** bottom / limits.bytes);
  plot.append(
    svg("path", { class: "roof", d: `M${X(start)} ${Y(start * limits.bytes)}L${X(ridge)} ${Y(limits.flops)}L${W - 12} ${Y(limits.flops)}` }),
    svg("text", { x: W - 14, y: Y(limits.flops) - 5, "text-anchor": "end" }, `${(limits.flops / 1e9).toFixed(0)} GFLOP/s`),
    svg("text", { x: X(ridge) - 8, y: Y(limits.flops) + 2, "text-anchor": "end" }, `${(limits.bytes / 1e9).toFixed(0)} GB/s`),
    svg("text", { x: W - 12, y: H - 2, "text-anchor": "end" }, "flops for each byte"),
    svg("text", { x: 0, y: 10 }, "GFLOP/s"));
  for (const k of [...shown].sort((a, b) => b.seconds - a.seconds)) {
    const { x, y } = of(k);
    plot.append(svg("circle", {
      class: `mark ${kernelClass(k)}`, "data-kernel": k.id, cx: X(x), cy: Y(y), r: 2.5 + 8 * Math.sqrt(k.seconds / most),
      click: () => choose("kernel", k.id),
      tip: `${k.name}\n${time(k.seconds)} · ${percent(nearness(k))} of the limit\n${(y / 1e9).toFixed(1)} GFLOP/s, ${x.toFixed(2)} flops a byte`,
    }));
  }
  return el("div", { class: "chart" },
    el("h2", {}, "How near each kernel is to what the machine can do"),
    el("p", { class: "soft", style: "margin: 0 0 8px" }, "Area by time. Bytes are those that a kernel must read and write once; with data that is in the caches already a kernel can be above the roof."),
    plot);
}

// Memory -------------------------------------------------------------------------------------------

function showMemory(view) {
  const { memory, waves, kernels, summary } = state.data;
  if (!memory.length) {
    view.replaceChildren(el("div", { class: "empty" }, "This graph has no intermediate values in memory."), ...storedWeights());
    return;
  }
  const W = Math.max(560, view.clientWidth - 40), H = Math.max(320, view.clientHeight - 130), L = 66, B = 28;
  const size = Math.max(1, summary.arena);
  const X = (wave) => L + (wave / waves) * (W - L - 8);
  const Y = (offset) => (H - B) - (offset / size) * (H - B - 10);
  const plot = svg("svg", { class: "plot", width: W, height: H, id: "memory" });
  for (let i = 0; i <= 4; i += 1) {
    const at = (size * i) / 4;
    plot.append(svg("line", { class: "axis", x1: L, x2: W - 8, y1: Y(at), y2: Y(at) }), svg("text", { x: L - 8, y: Y(at) + 4, "text-anchor": "end" }, bytes(Math.round(at))));
  }
  const step = Math.max(1, Math.ceil(waves / 12));
  for (let wave = 0; wave < waves; wave += step) plot.append(svg("text", { x: X(wave), y: H - 12 }, wave));
  plot.append(svg("text", { x: W - 8, y: H, "text-anchor": "end" }, "wave of kernels"));
  for (const block of [...memory].sort((a, b) => b.bytes - a.bytes)) {
    const maker = kernels[block.maker];
    const last = block.readers.length ? kernels[block.readers[block.readers.length - 1]].name : "nobody";
    plot.append(svg("rect", {
      class: `mark ${kernelClass(maker)}`, "data-kernel": block.maker, "data-value": block.name,
      x: X(block.first), width: Math.max(1.5, X(block.last + 1) - X(block.first) - 0.6),
      y: Y(block.offset + block.bytes), height: Math.max(1.2, (block.bytes / size) * (H - B - 10) - 0.4), rx: 1.5,
      click: () => choose("kernel", block.maker),
      tip: `%${block.name} · ${bytes(block.bytes)} at ${block.offset}\nmade by ${maker.name} in wave ${block.first}\nlast read by ${last} in wave ${block.last}\n${placesOf(maker).slice(0, 3).join(", ")}`,
    }));
  }
  const alive = new Array(waves).fill(0);
  for (const block of memory) for (let w = block.first; w <= block.last; w += 1) alive[w] += block.bytes;
  plot.append(svg("path", { class: "alive", d: `M${alive.map((n, w) => `${X(w)} ${Y(Math.min(n, size))}H${X(w + 1)}`).join("L")}` }));
  view.replaceChildren(el("div", { class: "chart" },
    el("h2", {}, "The arena: where each intermediate value lies, from its making to its last reader"),
    el("p", { class: "soft", style: "margin: 0 0 8px" }, `${memory.length} values in ${bytes(summary.arena)}; at least ${bytes(summary.arena_least)} are alive at one time, ${bytes(summary.arena_without_plan)} without a plan. The line is what is alive. A value that takes over another's place is counted with it.`),
    plot), ...storedWeights());
  markRows();
}

// Those that a package has for this code; nothing for other graphs.
function storedWeights() {
  const { package: own } = state.data;
  if (!own) return [];
  const head = ["Weight", "Type", "Bytes", "Order"].map((label) => el("th", {}, label));
  const rows = own.weights.map((w) => el("tr", { "data-weight": w.name },
    el("td", { class: "mono" }, w.name), el("td", { class: "mono" }, `${w.dtype}[${w.shape.join(",")}]`),
    el("td", {}, bytes(w.bytes)), el("td", { class: "soft" }, w.packed ? "as its kernel reads it" : "its own")));
  const total = own.weights.reduce((sum, w) => sum + w.bytes, 0);
  return [el("div", { class: "chart" },
    el("h2", {}, `${own.weights.length} weights of ${bytes(total)}, as they are stored in the package`),
    el("table", { id: "weights" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)))];
}

// Timeline -----------------------------------------------------------------------------------------

const timeline = { zoom: 1 };

function showTimeline(view) {
  const { chunks, kernels } = state.data;
  if (!chunks.length) {
    view.replaceChildren(el("div", { class: "empty" }, "No times were measured."));
    return;
  }
  const threads = [...new Set(chunks.map((c) => c[3]))].sort((a, b) => a - b);
  const end = Math.max(...chunks.map((c) => c[2]));
  const W = Math.max(560, view.clientWidth - 40) * timeline.zoom, L = 70, ROW = 46;
  const H = threads.length * ROW + 34;
  const X = (t) => L + (t / end) * (W - L - 10);
  const plot = svg("svg", { class: "plot", width: W, height: H, id: "timeline" });
  const unit = 10 ** Math.floor(Math.log10(end / timeline.zoom / 5));
  const tick = [1, 2, 5, 10].map((m) => m * unit).find((t) => end / t <= 12 * timeline.zoom) || end;
  for (let t = 0; t <= end; t += tick) plot.append(svg("line", { class: "axis", x1: X(t), x2: X(t), y1: 14, y2: H - 16 }), svg("text", { x: X(t), y: 9, "text-anchor": "middle" }, time(t / 1e6)));
  threads.forEach((thread, row) => plot.append(svg("text", { x: 0, y: 20 + row * ROW + 20 }, `thread ${thread}`)));
  for (const [k, from, to, thread] of chunks) {
    const row = threads.indexOf(thread), kernel = kernels[k], w = Math.max(0.7, X(to) - X(from));
    plot.append(svg("rect", {
      class: `mark ${kernelClass(kernel)}`, "data-kernel": k, x: X(from), y: 20 + row * ROW, width: w, height: ROW - 14, rx: Math.min(2, w / 3),
      click: () => choose("kernel", k), tip: `${kernel.name}\nthis chunk ${time((to - from) / 1e6)}, wave ${kernel.wave}`,
    }));
    if (w > 90) plot.append(svg("text", { x: X(from) + 5, y: 20 + row * ROW + 20, "pointer-events": "none", style: "fill: var(--panel)" }, cut(kernel.name, w - 10, 6.2)));
  }
  const zoom = (factor) => () => {
    const middle = (view.scrollLeft + view.clientWidth / 2) / W;
    timeline.zoom = Math.max(1, Math.min(40, timeline.zoom * factor));
    showTimeline(view);
    view.scrollLeft = middle * Math.max(560, view.clientWidth - 40) * timeline.zoom - view.clientWidth / 2;
  };
  view.replaceChildren(el("div", { class: "bar" }, el("h2", {}, "One run: each piece of each kernel, by thread"),
    el("div", { class: "tools" }, el("button", { class: "tool", click: zoom(0.5) }, "−"), el("button", { class: "tool", id: "closer", click: zoom(2) }, "+"))),
  el("div", { class: "chart" }, plot));
  markRows();
}
