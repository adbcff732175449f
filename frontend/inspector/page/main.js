// Views, search, keys, and the beginning.

const TABS = {
  graph: { label: "Graph", show: (view) => showPicture(view), mark: () => markPicture(true) },
  kernels: { label: "Kernels", show: showKernels, mark: markRows, pane: "wide" },
  timeline: { label: "Timeline", show: showTimeline, mark: markRows, pane: "wide" },
  memory: { label: "Memory", show: showMemory, mark: markRows, pane: "wide" },
  passes: { label: "Passes", show: showPasses, mark: markPasses, pane: "wide" },
  compiles: { label: "Compiles", show: showCompiles, mark: () => {}, pane: "full" },
};

function showFacts() {
  const s = state.data.summary, { runs } = state.data;
  const facts = [
    [s.operations, "operations"], [s.primitives, "primitives"], [s.kernels, "kernels"], [s.waves, "waves"],
    [s.seconds ? time(s.seconds) : null, "in kernels"], [runs ? runs.count : null, "runs"],
    [bytes(s.arena), "arena"], [count(s.flops), "flops"], [time(s.compile_seconds), "to compile"],
  ];
  const shown = facts.filter(([value]) => value !== null).map(([value, label]) => el("span", {}, el("b", {}, value), ` ${label}`));
  const own = state.data.package;
  const verdict = own ? [el("span", { id: "verdict", class: own.is_own ? null : "warning" }, own.verdict)] : [];
  $("facts").replaceChildren(...shown, el("span", {}, "for ", el("b", {}, state.data.target)), ...verdict);
}

async function go() {
  const target = parseAddress(location.hash);
  if (!TABS[target.tab]) target.tab = "graph";
  const isOther = !state.data || target.graph !== state.graph;
  if (isOther) await load(target.graph);
  if (!isThere(target.chosen)) target.chosen = null;
  const isNew = isOther || target.tab !== state.tab || !$("view").firstChild;
  state.tab = target.tab;
  state.chosen = target.chosen;
  $("tip").hidden = true;
  if (isOther) {
    showFacts();
    showSource();
    $("graphs").value = String(state.graph);
  }
  const tab = TABS[state.tab];
  $("tabs").querySelectorAll("button").forEach((b) => b.setAttribute("aria-selected", String(b.dataset.tab === state.tab)));
  document.querySelector("main").className = tab.pane || "";
  if (isNew) {
    $("view").scrollTop = $("view").scrollLeft = 0;
    await tab.show($("view"));
  }
  tab.mark();
  if (isOther && !state.chosen) revealHottest();
  markSource(true);
  showDetails();
  document.documentElement.dataset.shown = location.hash || "#";
}

function isThere(chosen) {
  if (!chosen) return true;
  const { operations, primitives, kernels, lines } = state.data;
  if (chosen.kind === "line") return lines.has(chosen.id);
  return chosen.id < { op: operations, prim: primitives, kernel: kernels }[chosen.kind].length;
}

// Search -------------------------------------------------------------------------------------------

const MOST_HITS = 60;
const search = { hits: [], at: 0 };

function findAll(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text) => { const lower = text.toLowerCase(); return words.every((w) => lower.includes(w)); };
  const { kernels, operations, primitives, files, lines } = state.data;
  const hits = [];
  for (const k of kernels) if (fits(`${k.name} ${k.kind}`)) hits.push(["kernel", k.id, k.name, time(k.seconds)]);
  for (const file of files) for (const [n, text] of file.lines) { const key = lineKey(file.path, n); if (lines.has(key) && fits(`${text} ${file.name}:${n}`)) hits.push(["line", key, text.trim(), `${file.name}:${n}`]); }
  for (const op of operations) if (fits(`${op.text} ${op.scope}`)) hits.push(["op", op.id, op.text, layer(op).split(".").slice(-2).join(".") || place(op)]);
  for (const prim of primitives) if (fits(prim.text)) hits.push(["prim", prim.id, prim.text, kernels[prim.kernel].name]);
  return hits;
}

function showHits() {
  const query = $("query").value.trim(), list = $("hits");
  list.hidden = !query;
  if (!query) { list.replaceChildren(); return; }
  search.hits = findAll(query);
  search.at = 0;
  const names = { kernel: "kernel", line: "line", op: "operation", prim: "primitive" };
  const shown = search.hits.slice(0, MOST_HITS).map(([kind, id, text, note], i) => el("li", { class: i ? null : "on", "data-hit": kind, click: () => take(i) },
    el("span", {}, names[kind]), el("span", {}, ...marked(text, query)), el("span", { class: "soft" }, note)));
  const rest = search.hits.length - shown.length;
  list.replaceChildren(...shown, ...(rest > 0 ? [el("div", { class: "soft", style: "padding: 4px 8px" }, `${rest} more`)] : []),
    ...(shown.length ? [] : [el("div", { class: "soft", style: "padding: 4px 8px" }, "Nothing is called so.")]));
}

function marked(text, query) {
  const word = query.split(/\s+/)[0].toLowerCase(), at = text.toLowerCase().indexOf(word);
  if (at < 0) return [text];
  return [text.slice(0, at), el("mark", {}, text.slice(at, at + word.length)), text.slice(at + word.length)];
}

function take(i) {
  const hit = search.hits[i];
  if (!hit) return;
  const [kind, id] = hit;
  $("hits").hidden = true;
  $("query").blur();
  if (state.tab === "compiles") state.tab = "graph";
  if (state.tab === "graph" && kind === "op") revealMember("operations", id, state.data.operations[id].group);
  if (state.tab === "graph" && kind === "prim") revealMember("kernels", id, state.data.primitives[id].kernel);
  choose(kind, id);
}

function revealMember(mode, id, group) {
  picture.mode = mode;
  picture.open[mode].add(group);
  draw($("view"));
}

function move(step) {
  const items = [...$("hits").querySelectorAll("li")];
  if (!items.length) return;
  items[search.at]?.classList.remove("on");
  search.at = (search.at + step + items.length) % items.length;
  items[search.at].classList.add("on");
  items[search.at].scrollIntoView({ block: "nearest" });
}

// Keys ---------------------------------------------------------------------------------------------

$("query").addEventListener("input", showHits);
$("query").addEventListener("focus", showHits);
$("query").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") move(1);
  else if (event.key === "ArrowUp") move(-1);
  else if (event.key === "Enter") take(search.at);
  else if (event.key === "Escape") { $("query").value = ""; showHits(); $("query").blur(); }
  else return;
  event.preventDefault();
  event.stopPropagation();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const tab = Object.keys(TABS)[Number(event.key) - 1];
  if (event.key === "/") $("query").focus();
  else if (event.key === "Escape") choose(null);
  else if (event.key === "Enter" && event.target.dataset?.line) choose("line", event.target.dataset.line);
  else if (tab) openTab(tab);
  else return;
  event.preventDefault();
});
document.addEventListener("click", (event) => { if (!$("search").contains(event.target)) $("hits").hidden = true; });

// The beginning ------------------------------------------------------------------------------------

$("graphs").replaceChildren(...HEAD.graphs.map((graph, i) => el("option", { value: i }, `${graph.name} · ${graph.summary.kernels} kernels${graph.summary.seconds ? ` · ${time(graph.summary.seconds)}` : ""}`)));
$("graphs").hidden = HEAD.graphs.length < 2;
$("graphs").addEventListener("change", () => { location.hash = address(Number($("graphs").value), state.tab, null); });
$("tabs").append(...Object.entries(TABS).map(([name, tab], i) => el("button", { "data-tab": name, role: "tab", title: `${tab.label} (${i + 1})`, click: () => openTab(name) }, tab.label)));
addEventListener("hashchange", go);
addEventListener("resize", () => { if (state.data && state.tab !== "graph" && state.tab !== "passes") TABS[state.tab].show($("view")); });
if (HEAD.graphs.length) {
  go().then(() => { document.documentElement.dataset.ready = Math.round(performance.now()); });
} else {
  $("view").append(el("div", { class: "empty" }, ["No graph was compiled.", ...HEAD.notes].join(" ")));
  document.documentElement.dataset.ready = Math.round(performance.now());
}
