// The page is whole without this script: it puts figures that can be pointed at in the place of pictures, and moves
// the choice by the same rules as `choose`.

const data = JSON.parse(byId("data").textContent);
const maps = new Map(data.maps.map((map) => [map.number, map]));
const front = data.front.map((number) => maps.get(number)); // by ascending parameters, and so by score
const state = { rule: data.rule, pinned: null, bounds: {} }; // bounds: of the rules that have one, as text

const STEPS = Number(byId("min-score").max); // of a slider
const count = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 4 });
const score = (value) => value.toFixed(4);

// ---- choosing

function chosenBy(rule) {
  const [name, bound] = rule.split("=");
  if (name === "max-parameters") return front.findLast((map) => map.parameters <= Number(bound));
  if (name === "min-score") return front.find((map) => map.score >= Number(bound));
  return maps.get(data.choices[name]);
}

// A budget: first the smallest map of the front; then from the smallest with parameters to the largest, in equal ratios.
function budgetAt(step) {
  const parameters = front.map((map) => map.parameters).filter((count) => count > 0);
  if (step === 0 || parameters.length === 0) return front[0].parameters;
  if (step === STEPS) return parameters.at(-1);
  const from = Math.log(parameters[0]);
  return Math.ceil(Math.exp(from + ((Math.log(parameters.at(-1)) - from) * (step - 1)) / (STEPS - 1)));
}

// A score from that of the front's smallest map to its best, rounded down, so that some map reaches it.
function leastScoreAt(step) {
  const [lowest, best] = [front[0].score, front.at(-1).score];
  const wanted = Math.min(best, lowest + ((best - lowest) * step) / STEPS);
  const rounded = Math.floor(wanted * 1e4) / 1e4;
  return (rounded > wanted ? rounded - 1e-4 : rounded).toFixed(4); // the product may have been rounded up
}

function choose(rule) {
  const [name, bound] = rule.split("=");
  if (bound !== undefined) state.bounds[name] = bound;
  state.rule = rule;
  render();
}

function pin(number) {
  state.pinned = state.pinned === number ? null : number;
  render();
  keep();
}

// ---- showing

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function described(map) {
  const error = map.se === null ? "" : ` ± ${score(map.se)}`;
  return `${score(map.score)}${error} with ${count(map.parameters)} parameters`;
}

function strip(map) {
  const cells = map.ranks.map((rank, i) => {
    const first = i > 0 && data.grid.places[i][0] !== data.grid.places[i - 1][0];
    const cell = element("span", { className: first ? "first" : "" });
    cell.style.background = data.colours[rank][0];
    return cell;
  });
  return element("div", { className: "strip" }, ...cells);
}

function tip(map) {
  const lines = [element("b", {}, `trial ${map.number}`), ` ${map.name}`, element("br"), described(map)];
  if (map.probability !== null) lines.push(element("br"), `on the front with probability ${map.probability.toFixed(2)}`);
  if (map.seeds > 1) lines.push(`, of ${map.seeds} trainings`);
  for (const [name, value] of Object.entries(map.settings)) lines.push(element("br"), `${name} ${value.toPrecision(4)}`);
  return [...lines, strip(map)];
}

// Ranks by layer and kind of module; small figures are what `against` has less or more.
function rankTable(map, against) {
  const { layers, kinds, places } = data.grid;
  const cells = layers.map(() => kinds.map(() => element("td")));
  map.ranks.forEach((rank, i) => {
    const cell = cells[places[i][0]][places[i][1]];
    const difference = against ? against.ranks[i] - rank : 0;
    cell.append(String(rank));
    if (difference) cell.append(" ", element("small", {}, `${difference > 0 ? "+" : "−"}${Math.abs(difference)}`));
    [cell.style.background, cell.style.color] = data.colours[rank];
  });
  const head = kinds.map((kind) => element("th", { scope: "col" }, element("span", {}, kind)));
  const rows = cells.map((row, i) => element("tr", {}, element("th", { scope: "row" }, layers[i]), ...row));
  return element(
    "table",
    { className: "ranks" },
    element("thead", {}, element("tr", {}, element("td"), ...head)),
    element("tbody", {}, ...rows),
  );
}

function showMaps(choice) {
  const first = maps.get(state.pinned) ?? choice;
  const panels = [[first, state.pinned === null ? "chosen" : "pinned"]];
  if (first !== choice) panels.push([choice, "chosen"]);
  const rival = maps.get(first.rival);
  if (rival && rival !== first && rival !== choice) {
    panels.push([rival, rival.parameters <= first.parameters ? "best uniform of no more parameters" : "smallest uniform"]);
  }
  byId("maps").replaceChildren(
    ...panels.map(([map, role], i) =>
      element(
        "div",
        { tabIndex: 0, role: "region", ariaLabel: `ranks of trial ${map.number}` },
        element("h3", {}, `trial ${map.number}, ${role}`),
        element("p", { className: "soft" }, described(map)),
        rankTable(map, i > 0 ? first : null),
      ),
    ),
  );
}

function showLosses(choice) {
  const rivals = data.compared.map((number) => maps.get(number));
  const wanted = [...new Set([maps.get(state.pinned), choice, maps.get(choice.rival), ...rivals])];
  const traces = wanted
    .filter((map) => map && data.losses[map.number])
    .map((map) => ({
      x: data.losses[map.number].map(([step]) => step),
      y: data.losses[map.number].map(([, loss]) => loss),
      mode: "lines",
      name: `trial ${map.number}${map === choice ? ", chosen" : ""}`,
    }));
  Plotly.react("losses", traces, { ...figures.losses.layout, ...theme(figures.losses.layout) }, CONFIG);
}

// A circle around a map. Of curves, as plotly drops pixels left of the anchor where an axis is logarithmic.
function ring(map, height, colour, r) {
  const k = 0.5523 * r;
  const path = `M${-r},0C${-r},${-k} ${-k},${-r} 0,${-r}C${k},${-r} ${r},${-k} ${r},0C${r},${k} ${k},${r} 0,${r}C${-k},${r} ${-r},${k} ${-r},0Z`;
  const place = { xsizemode: "pixel", ysizemode: "pixel", xanchor: map.parameters, yanchor: height };
  return { type: "path", path, ...place, line: { color: colour, width: 2 } };
}

function showRings(choice) {
  const marked = [[choice, "--choice", 9], [maps.get(state.pinned), "--pin", 13]].filter(([map]) => map && map.parameters > 0);
  for (const [name, height] of Object.entries({ pareto: "score", differences: "difference" })) {
    if (!figures[name]) continue;
    const shown = marked.filter(([map]) => map[height] !== null);
    const rings = shown.map(([map, colour, size]) => ring(map, map[height], ink(colour), size));
    Plotly.relayout(name, { shapes: [...(figures[name].layout.shapes ?? []), ...rings] });
  }
}

function showCommands(choice) {
  const start = "python -m rank_search";
  const which = state.pinned === null ? `--rule ${state.rule}` : `--trial ${state.pinned}`;
  const { weights } = maps.get(state.pinned) ?? choice;
  const retrain = weights === "retrain" ? " --retrain" : "";
  byId("choose-command").textContent = `${start} choose ${data.called} --rule ${state.rule}`;
  byId("export-command").textContent = `${start} export ${data.called} ${which} --to peft --out adapter${retrain}`;
  byId("export-command").parentElement.hidden = weights === "none";
  byId("no-weights").hidden = weights !== "none";
  byId("choice").textContent = `trial ${choice.number}: ${described(choice)}`;
  byId("pinned").textContent = state.pinned === null ? "nothing" : `trial ${state.pinned}: ${described(maps.get(state.pinned))}`;
}

function showRules() {
  const name = state.rule.split("=")[0];
  for (const radio of document.querySelectorAll("input[name=rule]")) radio.checked = radio.value === name;
  for (const [slider, bound] of Object.entries(state.bounds)) {
    byId(`${slider}-bound`).textContent = count(Number(bound));
    byId(slider).ariaValueText = count(Number(bound));
  }
}

function render() {
  const choice = chosenBy(state.rule);
  showRules();
  showCommands(choice);
  showRings(choice);
  showMaps(choice);
  showLosses(choice);
  for (const row of document.querySelectorAll("#trials tbody tr")) {
    row.classList.toggle("chosen", Number(row.dataset.trial) === choice.number);
  }
}

// In the address, where it outlives a reload; not at every step of a slider, as browsers count these.
function keep() {
  const kept = { rule: state.rule, ...(state.pinned !== null && { pin: state.pinned }) };
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

// ---- pointing

function pointAt(name) {
  const plot = byId(name);
  plot.on("plotly_hover", ({ points, event }) => {
    const map = maps.get(points[0].customdata);
    if (map) showTip(map, event);
  });
  plot.on("plotly_unhover", () => (byId("tip").hidden = true));
  plot.on("plotly_click", ({ points }) => maps.has(points[0].customdata) && pin(points[0].customdata));
}

function showTip(map, { clientX, clientY }) {
  const box = byId("tip");
  box.replaceChildren(...tip(map));
  box.hidden = false;
  box.style.left = `${Math.max(0, Math.min(clientX + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(0, Math.min(clientY + 14, innerHeight - box.offsetHeight - 8))}px`;
}

function drawAll() {
  for (const name of Object.keys(figures)) draw(name);
  for (const name of ["differences", "pareto"]) if (figures[name]) pointAt(name);
  render();
}

// ---- controls

function listen() {
  for (const radio of document.querySelectorAll("input[name=rule]")) {
    radio.addEventListener("change", () => {
      choose(radio.value in state.bounds ? `${radio.value}=${state.bounds[radio.value]}` : radio.value);
      keep();
    });
  }
  for (const name of ["max-parameters", "min-score"]) {
    standAt(name);
    byId(name).addEventListener("input", () => slide(name));
    byId(name).addEventListener("change", keep);
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => copy(byId(button.dataset.copy), button));
  }
  byId("unpin").addEventListener("click", () => state.pinned !== null && pin(state.pinned));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}

function boundOf(name) {
  const step = Number(byId(name).value);
  return String(name === "max-parameters" ? budgetAt(step) : leastScoreAt(step));
}

// A slider stands where the recalled bound is, or else gives the bound.
function standAt(name) {
  const slider = byId(name);
  if (state.bounds[name] === undefined) {
    state.bounds[name] = boundOf(name);
    return;
  }
  const wanted = Number(state.bounds[name]);
  const at = name === "max-parameters" ? budgetAt : leastScoreAt;
  const steps = Array.from({ length: STEPS + 1 }, (_, step) => step);
  slider.value = steps.reduce((best, step) => (Math.abs(at(step) - wanted) < Math.abs(at(best) - wanted) ? step : best), 0);
}

const slide = (name) => choose(`${name}=${boundOf(name)}`);

async function copy(source, button) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(source); // no clipboard, as over plain http
    button.textContent = "press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, column));
  });
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const downwards = heads[column].ariaSort === "ascending";
  for (const head of heads) head.ariaSort = null;
  heads[column].ariaSort = downwards ? "descending" : "ascending";
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === "" || right === "") return (left === "") - (right === "");
    const order = isNaN(left) || isNaN(right) ? left.localeCompare(right) : left - right;
    return downwards ? -order : order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

function makePinnable(table) {
  for (const row of table.tBodies[0].rows) {
    const number = Number(row.dataset.trial);
    if (!maps.has(number)) continue;
    const button = element("button", { type: "button", title: "pin this map" }, String(number));
    button.addEventListener("click", () => pin(number));
    row.cells[0].replaceChildren(button);
  }
}

// Reloads the page while its study runs, but not while the reader uses it.
function keepFresh() {
  let touched = 0;
  for (const name of ["pointermove", "pointerdown", "keydown", "focusin", "scroll"]) {
    addEventListener(name, () => (touched = Date.now()), { passive: true });
  }
  setInterval(() => !byId("paused").checked && Date.now() - touched > 5000 && location.reload(), 1000 * data.refresh);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const rule = kept.get("rule") ?? "";
  const known = rule in data.choices || /^(max-parameters|min-score)=[-\d.]+$/.test(rule);
  if (known && chosenBy(rule)) {
    const [name, bound] = rule.split("=");
    if (bound !== undefined) state.bounds[name] = bound;
    state.rule = rule;
  }
  if (maps.has(Number(kept.get("pin") ?? NaN))) state.pinned = Number(kept.get("pin"));
}

makeSortable(byId("trials"));
makePinnable(byId("trials"));
recall();
listen();
drawAll();
if (data.refresh !== null) keepFresh();
