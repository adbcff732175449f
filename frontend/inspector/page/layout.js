// A layered drawing: every node below what it reads, few crossings, bounded width.

const GAP_X = 18, GAP_Y = 26, MOST_IN_A_LAYER = 7, SWEEPS = 4;

// nodes: [{id, w, h}] in an order in which each comes after what it reads; edges: [[from, to]].
// Sets x, y, layer of each node; gives the size of the whole.
function layered(nodes, edges) {
  const by = new Map(nodes.map((node) => [node.id, node]));
  for (const node of nodes) { node.before = []; node.after = []; }
  for (const [from, to] of edges) {
    by.get(from).after.push(by.get(to));
    by.get(to).before.push(by.get(from));
  }
  const layers = [];
  for (const node of nodes) {
    let layer = node.before.reduce((most, other) => Math.max(most, other.layer + 1), 0);
    while (layers[layer] && layers[layer].length >= MOST_IN_A_LAYER) layer += 1;
    node.layer = layer;
    for (let l = layers.length; l <= layer; l += 1) layers.push([]);
    layers[layer].push(node);
  }
  const present = layers.filter((layer) => layer.length);
  present.forEach((layer, l) => layer.forEach((node, i) => { node.layer = l; node.at = i; }));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    for (const layer of down ? present : [...present].reverse()) {
      for (const node of layer) node.key = mean(near(down ? node.before : node.after, node), (o) => o.at, node.at);
      layer.sort((a, b) => a.key - b.key);
      layer.forEach((node, i) => { node.at = i; });
    }
  }
  let y = 0;
  for (const layer of present) {
    let x = 0;
    for (const node of layer) {
      node.want = mean(near(node.before, node), (o) => o.x + o.w / 2, null);
      node.x = x;
      x += node.w + GAP_X;
    }
    // As a whole to where its nodes would like to be, on the average.
    const wishes = layer.filter((node) => node.want !== null);
    const shift = wishes.length ? mean(wishes, (n) => n.want - n.x - n.w / 2, 0) : -(x - GAP_X) / 2;
    for (const node of layer) { node.x += shift; node.y = y; }
    y += Math.max(...layer.map((node) => node.h)) + GAP_Y;
  }
  const left = Math.min(0, ...nodes.map((node) => node.x));
  for (const node of nodes) node.x -= left;
  return { w: Math.max(0, ...nodes.map((n) => n.x + n.w)), h: Math.max(0, y - GAP_Y) };
}

// What is far away must not pull: a backward pass reads values from all over the forward pass.
function near(others, node) {
  const close = others.filter((other) => Math.abs(other.layer - node.layer) <= 3);
  return close.length ? close : others;
}

function mean(items, value, otherwise) {
  if (!items.length) return otherwise;
  return items.reduce((total, item) => total + value(item), 0) / items.length;
}
