// The graph as a picture: operations folded by layer, or kernels that unfold to their primitives.

const BOX_W = 176, BOX_H = 38, FRAME_TOP = 22, FRAME_PAD = 10, MARGIN = 20, SIDE = 60, LONG = 9;
const SMALLEST = 0.004;  // zoom
const FOLD_FROM = 24;  // fewer operations are shown one by one

const picture = { mode: "kernels", zoom: 1, open: { operations: new Set(), kernels: new Set() }, ready: -1 };

// The strata of the picture: groups with members, and who reads whom.
function strata(mode) {
  const { operations, primitives, kernels } = state.data;
  if (mode === "kernels") {
    return {
      groups: kernels.map((k) => ({
        id: k.id, label: k.name, members: k.primitives, kind: kernelClass(k), seconds: k.seconds,
        sub: `${k.seconds === null ? k.kind : time(k.seconds)} · ${k.primitives.length} op${k.primitives.length === 1 ? "" : "s"}`,
      })),
      member: (i) => ({ label: primitives[i].op, sub: primitives[i].type, kind: kernelClass(kernels[primitives[i].kernel]), reads: primitives[i].reads, seconds: 0 }),
      groupOf: (i) => primitives[i].kernel,
      edges: kernels.flatMap((k) => k.reads.map((r) => [r, k.id])),
    };
  }
  const groups = [];
  for (const op of operations) {
    const group = (groups[op.group] ||= { id: op.group, label: op.label, members: [], seconds: 0 });
    group.members.push(op.id);
    group.seconds += op.seconds;
  }
  for (const group of groups) {
    const heaviest = group.members.reduce((a, b) => (operations[b].seconds > operations[a].seconds ? b : a));
    group.kind = operationClass(operations[heaviest]);
    const n = group.members.length;
    group.sub = `${n} operation${n === 1 ? "" : "s"}${group.seconds ? ` · ${time(group.seconds)}` : ""}`;
  }
  const edges = new Map();
  for (const op of operations) {
    for (const r of op.reads) {
      const from = operations[r].group;
      if (from !== op.group) edges.set(`${from} ${op.group}`, [from, op.group]);
    }
  }
  return {
    groups,
    member: (i) => ({ label: operations[i].op, sub: operations[i].type, kind: operationClass(operations[i]), reads: operations[i].reads, seconds: operations[i].seconds, gone: operations[i].gone }),
    groupOf: (i) => operations[i].group,
    edges: [...edges.values()],
  };
}

function openAll(open) {
  const groups = strata(picture.mode).groups;
  picture.open[picture.mode] = new Set(open ? groups.map((g) => g.id) : []);
}

function showPicture(view) {
  if (picture.ready !== state.graph) {
    picture.ready = state.graph;
    picture.open = { operations: new Set(), kernels: new Set() };
    if (state.data.operations.length <= FOLD_FROM) {
      for (const op of state.data.operations) picture.open.operations.add(op.group);
    }
    picture.mode = state.data.operations.length <= FOLD_FROM ? "operations" : picture.mode;
  }
  const modes = [["operations", "Operations"], ["kernels", "Kernels"]].map(([mode, label]) =>
    el("button", { "data-mode": mode, "aria-pressed": String(picture.mode === mode), click: () => { picture.mode = mode; draw(view); lookAtStart(view); } }, label));
  const fold = (open) => () => { openAll(open); draw(view); lookAtStart(view); };
  const zoom = (factor) => () => { zoomTo(view, Math.min(2, picture.zoom * factor)); };
  view.replaceChildren(
    el("div", { class: "bar" },
      el("div", { class: "switch" }, modes),
      el("div", { class: "tools" },
        el("button", { class: "tool", id: "unfold", click: fold(true) }, "Unfold all"),
        el("button", { class: "tool", id: "fold", click: fold(false) }, "Fold all"),
        el("button", { class: "tool", id: "fit", click: () => fit(view) }, "Fit"),
        el("button", { class: "tool", "aria-label": "Smaller", click: zoom(1 / 1.25) }, "−"),
        el("button", { class: "tool", "aria-label": "Larger", click: zoom(1.25) }, "+"))),
    el("div", { id: "canvas" }), legend());
  draw(view);
}

// What was in the middle stays there.
function zoomTo(view, zoom) {
  const canvas = view.querySelector("#canvas"), before = picture.zoom;
  const x = (canvas.scrollLeft + canvas.clientWidth / 2) / before, y = (canvas.scrollTop + canvas.clientHeight / 2) / before;
  picture.zoom = Math.max(SMALLEST, zoom);
  draw(view);
  canvas.scrollLeft = x * picture.zoom - canvas.clientWidth / 2;
  canvas.scrollTop = y * picture.zoom - canvas.clientHeight / 2;
}

function fit(view) {
  const canvas = view.querySelector("#canvas"), { width, height } = canvas.firstChild.viewBox.baseVal;
  zoomTo(view, Math.min(1, canvas.clientWidth / width, canvas.clientHeight / height));
}

// Another drawing has its boxes elsewhere: what is chosen, or the beginning, is to be seen.
function lookAtStart(view) {
  if (state.chosen) { markPicture(true); return; }
  const canvas = view.querySelector("#canvas");
  const first = picture.start;
  if (!first) return;
  canvas.scrollTop = 0;
  canvas.scrollLeft = (first.x + first.w / 2 + MARGIN) * picture.zoom - canvas.clientWidth / 2;
}

function legend() {
  const kinds = [["contract", "products"], ["reduce", "reductions"], ["pointwise", "elementwise"], ["movement", "moves"], ["other", "other"]];
  return el("div", { class: "legend" }, kinds.map(([kind, label]) => el("span", { style: `--c: var(--${kind})` }, label)));
}

function draw(view) {
  for (const button of view.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", String(button.dataset.mode === picture.mode));
  const drawing = strata(picture.mode);
  const open = picture.open[picture.mode];
  const inner = new Map();
  const nodes = drawing.groups.map((group) => {
    // A group of one is shown as what it is.
    const single = picture.mode === "operations" && group.members.length === 1;
    if (single || !open.has(group.id) || !group.members.length) return { id: group.id, group, w: BOX_W, h: BOX_H, single };
    const members = group.members.map((i) => ({ id: i, w: BOX_W - 16, h: BOX_H, ...drawing.member(i) }));
    const own = new Set(group.members);
    const edges = members.flatMap((m) => m.reads.filter((r) => own.has(r) && r !== m.id).map((r) => [r, m.id]));
    const size = layered(members, edges);
    inner.set(group.id, { members, edges });
    return { id: group.id, group, w: Math.max(size.w + 2 * FRAME_PAD, BOX_W), h: size.h + FRAME_TOP + FRAME_PAD, members };
  });
  const size = layered(nodes, drawing.edges);
  const most = Math.max(1e-12, ...drawing.groups.map((g) => g.seconds || 0));
  const by = new Map(nodes.map((node) => [node.id, node]));
  const paths = drawing.edges.map(([a, b]) => edge(by.get(a), by.get(b), a, b));
  const boxes = nodes.flatMap((node) => (node.members ? frame(node, inner.get(node.id), drawing, most) : [groupBox(node, drawing, most)]));
  const w = size.w + 2 * MARGIN + SIDE, h = size.h + 2 * MARGIN;
  const root = svg("svg", { id: "picture", viewBox: `${-MARGIN} ${-MARGIN} ${w} ${h}`, width: w * picture.zoom, height: h * picture.zoom },
    svg("g", {}, paths), svg("g", {}, boxes));
  root.addEventListener("click", (event) => { if (event.target === root) choose(null); });
  const canvas = view.querySelector("#canvas");
  const first = !canvas.firstChild;
  canvas.replaceChildren(root);
  markPicture(first && Boolean(state.chosen));
  picture.start = nodes.reduce((a, b) => (!a || b.y < a.y ? b : a), null);
  if (first && !state.chosen) lookAtStart(view);
}

function edge(a, b, from, to) {
  const x1 = a.x + a.w / 2, y1 = a.y + a.h, x2 = b.x + b.w / 2, y2 = b.y;
  const bend = Math.max(14, Math.min(60, (y2 - y1) / 2));
  let d = `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
  if (b.layer - a.layer > 1) {
    // Past the boxes in between, on their right.
    const right = Math.max(a.x + a.w, b.x + b.w), out = right + 12 + 7 * Math.min(8, b.layer - a.layer);
    const ya = a.y + a.h / 2, yb = b.y + b.h / 2;
    d = `M${a.x + a.w} ${ya}C${out} ${ya} ${out} ${ya} ${out} ${ya + Math.min(40, (yb - ya) / 2)}L${out} ${yb - Math.min(40, (yb - ya) / 2)}C${out} ${yb} ${out} ${yb} ${b.x + b.w} ${yb}`;
  }
  return svg("path", {
    d,
    "data-from": from, "data-to": to, class: b.layer - a.layer > LONG ? "long" : null,
  });
}

const cut = (text, width, size) => (text.length * size <= width ? text : `${text.slice(0, Math.max(1, Math.floor(width / size) - 1))}…`);

function box(x, y, w, h, label, sub, kind, part, attributes) {
  return svg("g", { class: "box", transform: `translate(${x} ${y})`, ...attributes },
    svg("rect", { class: "body", width: w, height: h, rx: 5 }),
    svg("rect", { class: kind, width: 3, height: h - 10, x: 5, y: 5, rx: 1.5 }),
    part > 0.004 ? svg("rect", { class: "heat", x: 14, y: h - 4, height: 2, width: (w - 22) * part, rx: 1 }) : null,
    svg("text", { x: 14, y: 15.5 }, cut(label, w - 34, 7.25)),
    svg("text", { class: "sub", x: 14, y: 29 }, cut(sub, w - 22, 5.9)));
}

function groupBox(node, drawing, most) {
  const { group } = node;
  if (node.single) return memberBox(group.members[0], { ...drawing.member(group.members[0]), x: node.x, y: node.y, w: node.w, h: node.h }, 0, 0, most);
  const part = (group.seconds || 0) / most;
  const click = picture.mode === "kernels" ? () => choose("kernel", group.id) : () => toggle(group.id);
  const made = box(node.x, node.y, node.w, node.h, group.label, group.sub, group.kind, part, {
    "data-group": group.id, [picture.mode === "kernels" ? "data-kernel" : "data-folded"]: group.id, click, tip: () => groupHint(group),
  });
  made.append(handle(node.w - 20, 2, "▸", group));
  return made;
}

function groupHint(group) {
  if (picture.mode === "operations") return `${group.label}\n${group.sub}`;
  const kernel = state.data.kernels[group.id];
  const lines = placesOf(kernel);
  const more = lines.length > 4 ? ` and ${lines.length - 4} more` : "";
  return `${kernel.name}\n${time(kernel.seconds)} · ${bytes(kernel.read + kernel.written)} · ${count(kernel.flops)}flop\n${lines.slice(0, 4).join(", ")}${more}`;
}

function handle(x, y, sign, group) {
  return svg("g", {
    class: "fold", transform: `translate(${x} ${y})`, "data-fold": group.id,
    click: (event) => { event.stopPropagation(); toggle(group.id); },
  }, svg("rect", { width: 18, height: 18 }), svg("text", { x: 5, y: 13 }, sign));
}

function toggle(id) {
  const open = picture.open[picture.mode];
  if (open.has(id)) open.delete(id);
  else open.add(id);
  draw($("view"));
}

function frame(node, { members, edges }, drawing, most) {
  const { group } = node;
  const by = new Map(members.map((m) => [m.id, m]));
  const dx = node.x + FRAME_PAD, dy = node.y + FRAME_TOP;
  const shifted = (m) => ({ ...m, x: m.x + dx, y: m.y + dy });
  const title = svg("g", { class: "frame box", "data-group": group.id, "data-open": group.id,
    click: () => (picture.mode === "kernels" ? choose("kernel", group.id) : toggle(group.id)), transform: `translate(${node.x} ${node.y})` },
    svg("rect", { class: "body", width: node.w, height: node.h, rx: 7 }),
    svg("text", { x: 10, y: 15 }, cut(group.label, node.w - 34, 6.2)),
    handle(node.w - 20, 1, "▾", group));
  const paths = edges.map(([a, b]) => edge(shifted(by.get(a)), shifted(by.get(b)), `m${a}`, `m${b}`));
  return [title, ...paths, ...members.map((m) => memberBox(m.id, m, dx, dy, most))];
}

function memberBox(id, member, dx, dy, most) {
  const kind = picture.mode === "kernels" ? "prim" : "op";
  const sub = member.gone ? `gone after ${member.gone}` : member.sub;
  return box(member.x + dx, member.y + dy, member.w, member.h, member.label, sub, member.kind, (member.seconds || 0) / most, {
    [`data-${kind}`]: id,
    click: (event) => { event.stopPropagation(); choose(kind, id); },
    tip: () => (kind === "prim" ? state.data.primitives[id].text : state.data.operations[id].text),
  });
}

// Mark what belongs to the choice, and bring it into sight.
function markPicture(reveal) {
  const root = $("picture");
  if (!root) return;
  const found = related(state.chosen);
  root.classList.toggle("chosen", Boolean(state.chosen));
  const kernels = picture.mode === "kernels";
  const drawing = strata(picture.mode);
  const inside = kernels ? found.kernels : new Set([...found.ops].map(drawing.groupOf));
  let first = null;
  for (const node of root.querySelectorAll(".box")) {
    const { op, prim, group } = node.dataset;
    const on = op !== undefined ? found.ops.has(Number(op))
      : prim !== undefined ? found.prims.has(Number(prim))
        : inside.has(Number(group)) && !(node.dataset.open && !kernels);
    node.classList.toggle("on", on);
    if (on && (!first || node.dataset.open === undefined)) first ||= node;
  }
  for (const path of root.querySelectorAll("path")) {
    const [a, b] = [path.dataset.from, path.dataset.to];
    const on = a[0] === "m" ? false : inside.has(Number(a)) || inside.has(Number(b));
    path.classList.toggle("on", on && inside.size <= 40);
  }
  if (reveal && first) {
    const view = $("canvas"), spot = first.getBoundingClientRect(), frame = view.getBoundingClientRect();
    if (spot.top < frame.top + 40 || spot.bottom > frame.bottom || spot.left < frame.left || spot.right > frame.right) {
      view.scrollBy({ top: spot.top - frame.top - frame.height / 3, left: spot.left - frame.left - frame.width / 2 + spot.width / 2 });
    }
  }
}
