// The stability map of Figure E1, the landscapes of Figure 2, and SAM on a quadratic (Figure B1).
"use strict";

const NAMES = { a: "a", s2: "s₂", s3: "s₃", s4: "s₄" };
const EXACT = 1 + 1e-6; // what rounding of the data may add to 1

function drawStability() {
  const data = EXPLORED.stability;
  const [i, j] = [Number($("s-eta").value), Number($("s-rho").value)];
  const [eta, rho] = [data.eta[i], data.rho[j]];
  $("s-eta-is").textContent = eta.toPrecision(3);
  $("s-rho-is").textContent = rho.toPrecision(3);
  const holds = Object.keys(NAMES).map((name) =>
    `${NAMES[name]} is ${data[name][i][j].toFixed(2)} of its bound${data[name][i][j] > EXACT ? " (violated)" : ""}`);
  $("s-said").textContent =
    `The second moment ${data.growth[i][j] <= EXACT ? "is stable" : "grows"}: exact growth ${data.growth[i][j].toFixed(3)} ` +
    `a step. Theorem 9 ${data.theorem9[i][j] <= EXACT ? "promises stability" : "promises nothing"}: ` +
    `λ_max = ${data.theorem9[i][j].toFixed(3)}. Conditions (7): ${holds.join(", ")}.`;
  const cut = data.growth[0].map((_, column) => data.growth.map((row) => Math.max(-0.15, Math.min(0.15, Math.log10(row[column])))));
  const edge = (z, name, color, dash) => ({ x: data.eta, y: data.rho, z: z[0].map((_, c) => z.map((row) => row[c])), name,
    type: "contour", contours: { start: 1, end: 1, size: 1, coloring: "none" }, line: { color, dash, width: 2 },
    showlegend: true, hoverinfo: "skip" });
  Plotly.react("s-map", [
    { x: data.eta, y: data.rho, z: cut, type: "heatmap", colorscale: "RdBu", zmid: 0,
      colorbar: { title: { text: "log₁₀ growth" } }, hovertemplate: "η %{x:.3g}, ρ %{y:.3g}<extra></extra>" },
    edge(data.growth, "exact edge", "black", "solid"),
    edge(data.theorem9, "Theorem 9", "black", "dash"),
    { x: [eta], y: [rho], mode: "markers", name: "chosen", marker: { color: "#E69F00", size: 14, symbol: "x" } },
  ], { xaxis: { ...logarithmic(data.eta), title: { text: "step size η" } },
    yaxis: { ...logarithmic(data.rho), title: { text: "radius ρ" } },
    margin: { l: 60, r: 10, t: 10, b: 50 }, legend: { orientation: "h", y: -0.25, yanchor: "top" } }, OPTIONS);
}

function drawLandscape() {
  const surfaces = EXPLORED.landscape;
  const chosen = surfaces[Number($("l-network").value)];
  const every = surfaces.flatMap((surface) => surface.loss.flat()).map(Math.log10);
  const [low, high] = every.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  Plotly.react("l-map", [
    { x: chosen.u, y: chosen.v, z: chosen.loss.map((row) => row.map(Math.log10)), type: "contour", zmin: low, zmax: high,
      colorscale: "Viridis", ncontours: 20, colorbar: { title: { text: "log₁₀ loss" } },
      text: chosen.loss, hovertemplate: "u %{x:.2f}, v %{y:.2f}<br>loss %{text:.4g}<extra></extra>" },
  ], { xaxis: { title: { text: "along the first eigenvector" } }, yaxis: { title: { text: "along the second" } },
    title: { text: chosen.name }, margin: { l: 60, r: 10, t: 40, b: 50 } }, OPTIONS);
}

// w₀ … w_steps of normalized SAM on ½wᵀΛw: w ← w − ηΛw − (ηρ/‖Λw‖) Λ²w (lib.theory.bouncing.step).
function bounces(w, lam, eta, rho, steps) {
  const path = [w];
  for (let t = 0; t < steps; t++) {
    const g = w.map((value, i) => lam[i] * value);
    const length = Math.hypot(...g);
    w = length ? w.map((value, i) => value - eta * g[i] - (eta * rho / length) * lam[i] * g[i]) : w;
    path.push(w);
  }
  return path;
}

let start = null;

function drawBouncing() {
  const [ratio, eta, rho] = ["b-ratio", "b-eta", "b-rho"].map((id) => Number($(id).value));
  for (const id of ["b-ratio", "b-eta", "b-rho"]) $(`${id}-is`).textContent = $(id).value;
  const lam = [1, ratio];
  const limit = (eta * rho * lam[0]) / (2 - eta * lam[0]);
  const path = bounces(start ?? [8 * limit, 12 * limit], lam, eta, rho, 400);
  const last = path[path.length - 1];
  const off = Math.hypot(Math.abs(last[0]) - limit, last[1]);
  $("b-said").textContent = `The limit is ±ηρλ₁/(2 − ηλ₁) = ±${limit.toPrecision(3)} across the steepest direction. ` +
    `After 400 steps SAM is at (${last.map((value) => value.toPrecision(3)).join(", ")}), ${off.toPrecision(2)} from it.`;
  Plotly.react("b-map", [
    { x: path.map((w) => w[0]), y: path.map((w) => w[1]), mode: "lines+markers", line: { width: 0.5, color: "#888888" },
      marker: { size: 5, color: path.map((_, t) => t), colorscale: "Viridis", colorbar: { title: { text: "step" } } },
      text: path.map((_, t) => t), hovertemplate: "step %{text}: (%{x:.3g}, %{y:.3g})<extra></extra>" },
    { x: [-limit, limit], y: [0, 0], mode: "markers", marker: { symbol: "x", size: 12, color: "#D55E00" },
      hovertemplate: "limit<extra></extra>" },
  ], { xaxis: { title: { text: "w₁ (steepest)" } }, yaxis: { title: { text: "w₂" } }, showlegend: false,
    margin: { l: 60, r: 10, t: 10, b: 50 } }, OPTIONS);
}

function startFromClick(event) {
  const { xaxis, yaxis } = $("b-map")._fullLayout;
  const box = $("b-map").querySelector(".nsewdrag").getBoundingClientRect();
  start = [xaxis.p2c(event.clientX - box.left), yaxis.p2c(event.clientY - box.top)];
  drawBouncing();
}

function startTheory() {
  for (const [id, values] of [["s-eta", EXPLORED.stability.eta], ["s-rho", EXPLORED.stability.rho]]) {
    $(id).max = values.length - 1;
    $(id).addEventListener("input", drawStability);
  }
  drawStability();
  fill($("l-network"), EXPLORED.landscape.map((surface, i) => [i, surface.name]));
  $("l-network").addEventListener("input", drawLandscape);
  if (EXPLORED.landscape.length) drawLandscape();
  for (const id of ["b-ratio", "b-eta", "b-rho"]) $(id).addEventListener("input", drawBouncing);
  drawBouncing();
  $("b-map").querySelector(".nsewdrag").addEventListener("click", startFromClick);
}

startTheory();
