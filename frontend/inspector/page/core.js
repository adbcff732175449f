// What everything else uses: the unpacked data, the selection, small helpers.

const HEAD = JSON.parse(document.getElementById("head").textContent);
const $ = (id) => document.getElementById(id);

const state = {
  graph: 0,         // which graph
  tab: "graph",     // which view
  chosen: null,     // {kind: "line" | "op" | "prim" | "kernel", id}
  data: null,       // of the graph
  code: null,       // a promise of its functions' code
  passes: null,     // a promise of what its passes changed
};

// Data ---------------------------------------------------------------------------------------------

async function unpack(id) {
  const packed = atob($(id).textContent);
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function load(number) {
  const data = await unpack(`graph-${number}`);
  state.graph = number;
  state.data = data;
  state.code = null;
  state.passes = null;
  data.lines = new Map();     // "file:line" -> {ops, seconds}
  data.operations.forEach((op, i) => {
    op.prims = [];
    op.readers = [];
    op.seconds = 0;
    op.id = i;
    if (op.line) {
      const key = lineKey(op.file, op.line);
      if (!data.lines.has(key)) data.lines.set(key, { ops: [], seconds: 0 });
      data.lines.get(key).ops.push(i);
    }
  });
  for (const op of data.operations) for (const r of op.reads) data.operations[r].readers.push(op.id);
  data.primitives.forEach((prim, i) => {
    prim.id = i;
    for (const o of prim.operation) data.operations[o].prims.push(i);
  });
  data.kernels.forEach((kernel, i) => { kernel.id = i; kernel.readers = []; });
  for (const kernel of data.kernels) {
    for (const r of kernel.reads) data.kernels[r].readers.push(kernel.id);
    // A kernel's time is shared out evenly among the operations that it computes.
    for (const o of kernel.operations) {
      const share = (kernel.seconds || 0) / kernel.operations.length;
      const op = data.operations[o];
      op.seconds += share;
      if (op.line) data.lines.get(lineKey(op.file, op.line)).seconds += share;
    }
  }
}

const lineKey = (file, line) => `${file}:${line}`;
const codeOf = () => (state.code ||= unpack(`code-${state.graph}`));
const passesOf = () => (state.passes ||= unpack(`passes-${state.graph}`));

// Selection ----------------------------------------------------------------------------------------

// All that belongs to what was chosen, in every stratum.
function related(chosen) {
  const found = { lines: new Set(), ops: new Set(), prims: new Set(), kernels: new Set() };
  if (!chosen) return found;
  const { operations, primitives, kernels, lines } = state.data;
  const addOps = (ids) => {
    for (const id of ids) {
      const op = operations[id];
      found.ops.add(id);
      if (op.line) found.lines.add(lineKey(op.file, op.line));
    }
  };
  const fromOps = (ids) => {
    addOps(ids);
    for (const id of ids) {
      for (const k of operations[id].kernels) found.kernels.add(k);
      for (const p of operations[id].prims) found.prims.add(p);
    }
  };
  if (chosen.kind === "line") fromOps(lines.get(chosen.id)?.ops || []);
  if (chosen.kind === "op") fromOps([chosen.id]);
  if (chosen.kind === "prim") {
    found.prims.add(chosen.id);
    found.kernels.add(primitives[chosen.id].kernel);
    addOps(primitives[chosen.id].operation);
  }
  if (chosen.kind === "kernel") {
    found.kernels.add(chosen.id);
    for (const p of kernels[chosen.id].primitives) found.prims.add(p);
    addOps(kernels[chosen.id].operations);
  }
  return found;
}

const LETTERS = { line: "l", op: "o", prim: "p", kernel: "k" };

// The address names the graph, the view and the choice, so that one can go back and forth.
function address(graph, tab, chosen) {
  if (!chosen) return `#${graph}/${tab}`;
  const id = chosen.kind === "line" ? encodeURIComponent(chosen.id) : chosen.id;
  return `#${graph}/${tab}/${LETTERS[chosen.kind]}${id}`;
}

function parseAddress(hash) {
  const [graph, tab, rest] = hash.replace(/^#/, "").split("/");
  const kind = Object.keys(LETTERS).find((k) => rest && rest[0] === LETTERS[k]);
  const id = kind === "line" ? decodeURIComponent(rest.slice(1)) : Number((rest || "").slice(1));
  return {
    graph: Math.min(Number(graph) || 0, HEAD.graphs.length - 1),
    tab: tab || "graph",
    chosen: kind ? { kind, id } : null,
  };
}

function choose(kind, id) {
  const chosen = kind ? { kind, id } : null;
  location.hash = address(state.graph, state.tab, chosen);
}

const openTab = (tab) => { location.hash = address(state.graph, tab, state.chosen); };

// Elements and numbers -----------------------------------------------------------------------------

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  fill(node, attributes, children);
  return node;
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(node, attributes, children);
  return node;
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "click") node.addEventListener("click", value);
    else if (key === "tip") { if (value) hint(node, value); }
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
}

function hint(node, text) {
  node.addEventListener("mousemove", (event) => {
    const tip = $("tip");
    tip.hidden = false;
    tip.textContent = typeof text === "function" ? text() : text;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
  });
  node.addEventListener("mouseleave", () => { $("tip").hidden = true; });
}

function scaled(value, units, step) {
  let i = 0;
  while (i + 1 < units.length && Math.abs(value) >= step) { value /= step; i += 1; }
  const digits = value >= 100 || (i === 0 && Number.isInteger(value)) ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[i]}`.trim();
}

const time = (s) => (s === null || s === undefined ? "–" : s === 0 ? "0" : scaled(s * 1e9, ["ns", "µs", "ms", "s"], 1000));
const bytes = (n) => scaled(n, ["B", "KiB", "MiB", "GiB"], 1024);
const count = (n) => scaled(n, ["", "K", "M", "G", "T"], 1000);
const percent = (x) => `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)}%`;
const baseName = (path) => path.split("/").pop();
const place = (op) => (op.line ? `${baseName(op.file)}:${op.line}` : "");
const layer = (op) => op.scope.split(" (")[0];

const KINDS = { contract: "contract", attention: "contract", reduce: "reduce", row: "reduce", columns: "reduce", scan: "reduce", pointwise: "pointwise", copy: "movement" };
const kernelClass = (kernel) => `k-${KINDS[kernel.kind] || "other"}`;

// An operation has the colour of the kernel that it takes longest in.
function operationClass(op) {
  if (!op.kernels.length) return "k-movement";
  const { kernels } = state.data;
  const longest = op.kernels.reduce((a, b) => ((kernels[b].seconds || 0) > (kernels[a].seconds || 0) ? b : a));
  return kernelClass(kernels[longest]);
}

const placesOf = (kernel) => [...new Set(kernel.operations.map((o) => place(state.data.operations[o])).filter(Boolean))];

// Code with its words, names, numbers and comments marked.
const TOKENS = /(;.*|#(?= ).*)|("[^"]*")|([%@]"?[\w.]+"?)|\b(graph|nest|for|in|store|chunks|vector|unroll|reduce|contraction|over|sum|scan|sort|attention|host|recurrence|steps|program|return|define|declare|void|ret|br|label|load|getelementptr|phi|call|tail|fadd|fmul|fsub|fdiv|add|mul|sub|icmp|fcmp|select|ptr|float|double|half|i1|i8|i16|i32|i64)\b|\b(-?\d[\d.e+-]*)\b/g;

// The same of CUDA C, where a semicolon begins no comment.
const CUDA_TOKENS = /(\/\/.*)|("[^"]*"|#pragma.*|#include.*)|\b(threadIdx|blockIdx|blockDim|gridDim)\b|\b(extern|const|void|bool|char|short|int|long|unsigned|float|double|auto|struct|template|class|if|else|for|while|do|return|break|continue|true|false|__\w+__)\b|\b(-?\d[\w.]*)\b/g;

function highlighted(text, tokens = TOKENS) {
  const out = document.createDocumentFragment();
  let last = 0;
  for (const match of text.matchAll(tokens)) {
    out.append(text.slice(last, match.index));
    const kind = match[1] ? "c" : match[2] ? "d" : match[3] ? "n" : match[4] ? "w" : "d";
    out.append(el("span", { class: kind }, match[0]));
    last = match.index + match[0].length;
  }
  out.append(text.slice(last));
  return out;
}
