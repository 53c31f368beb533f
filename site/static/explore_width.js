// Figures 3a, 5 and 11: choose how ρ is set, a network and seeds; gaps, accuracies and the best ρ follow.
"use strict";

const COLOURS = { SGD: "#0072B2", SAM: "#D55E00", mean: "#000000" };
const OPTIONS = { responsive: true, displaylogo: false };
const $ = (id) => document.getElementById(id);

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

// Mean and 95% interval by Student's t; without an interval for one value.
function meanOf(values, student) {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { n, mean, half: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { n, mean, half: student[n - 1] * Math.sqrt(variance / n) };
}

// The gap of every seed: [{width, parameters, seed, rho, gap, key}], at a ρ or by a protocol of choosing it.
function gapsOf(data, rho) {
  if (data.protocols.includes(rho)) return data.chosen.filter((row) => row.protocol === rho);
  const sgd = new Map(data.runs.filter((run) => run.rho === 0).map((run) => [`${run.width} ${run.seed}`, run]));
  return data.runs.filter((run) => run.rho > 0 && String(run.rho) === rho && sgd.has(`${run.width} ${run.seed}`))
    .map((run) => ({ ...run, gap: run.accuracy - sgd.get(`${run.width} ${run.seed}`).accuracy }));
}

const unique = (values) => [...new Set(values)].sort((a, b) => a - b);
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);

function intervals(rows, value, student) {
  return unique(rows.map((row) => row.parameters)).map((parameters) => {
    const here = rows.filter((row) => row.parameters === parameters);
    return { parameters, width: here[0].width, ...meanOf(here.map(value), student) };
  });
}

function toRecord(box) {
  box.on("plotly_click", (event) => {
    const key = event.points[0].customdata;
    if (key) location.href = `runs.html#key=${key}`;
  });
}

// A log axis with whole numbers at 1, 2 and 5 of each decade that the values span; Plotly's own are bare digits.
function logarithmic(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const decades = Array.from({ length: 20 }, (_, i) => i - 8);
  const tickvals = decades.flatMap((d) => [1, 2, 5].map((digit) => Number(`${digit}e${d}`)));
  const within = tickvals.filter((value) => value >= low / 1.5 && value <= 1.5 * high);
  return { type: "log", tickvals: within, ticktext: within.map(plain) };
}

const plain = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1e3 ? `${value / 1e3}k` : String(value));

function drawWidth() {
  const data = EXPLORED.width;
  const [rho, width, seeds] = ["w-rho", "w-width", "w-seeds"].map((id) => $(id).value);
  const chosen = (row) => (!seeds || row.seed === Number(seeds)) && (!width || row.width === Number(width));
  const rows = gapsOf(data, rho).filter(chosen);
  const means = intervals(rows, (row) => row.gap, data.student);
  const last = means[means.length - 1];
  $("w-said").textContent = !last ? "No record fits this choice." : means.map((m) =>
    `${(m.parameters / 1000).toFixed(0)}k parameters: ${signed(m.mean)} points` +
    (m.half === null ? " (one seed has no interval)" : ` (95% ${signed(m.mean - m.half)} to ${signed(m.mean + m.half)}, ${m.n} seeds)`)
  ).join("; ");
  const x = { title: { text: "trainable parameters" }, ...logarithmic(data.runs.map((run) => run.parameters)) };
  const margin = { l: 60, r: 10, t: 40, b: 50 };
  Plotly.react("w-gap", [
    { x: rows.map((r) => r.parameters), y: rows.map((r) => r.gap), mode: "markers", name: "seeds",
      marker: { color: COLOURS.SAM, opacity: 0.5 }, customdata: rows.map((r) => r.key),
      text: rows.map((r) => `seed ${r.seed}, width ${r.width}, ρ = ${r.rho}` + (r.key ? `, record ${r.key}` : "")),
      hovertemplate: "%{text}<br>gap %{y:.3f} points<extra></extra>" },
    { x: means.map((m) => m.parameters), y: means.map((m) => m.mean), mode: "lines+markers", name: "mean, 95%",
      marker: { color: COLOURS.mean, symbol: "diamond", size: 9 },
      error_y: { type: "data", array: means.map((m) => m.half ?? 0), visible: true },
      hovertemplate: "mean %{y:.3f} points<extra></extra>" },
  ], { title: { text: "SAM − SGD, test accuracy (points)" }, xaxis: x, yaxis: { title: { text: "points" } }, margin,
    showlegend: false }, OPTIONS);

  const shown = data.runs.filter(chosen);
  const network = width ? Number(width) : unique(shown.map((r) => r.width))[0];
  const points = shown.filter((r) => r.width === network);
  const category = (r) => (r.rho === 0 ? "SGD" : `ρ = ${r.rho}`);
  const order = unique(points.map((r) => r.rho)).map((value) => category({ rho: value }));
  Plotly.react("w-accuracy", [
    { x: points.map(category), y: points.map((r) => r.accuracy), mode: "markers", customdata: points.map((r) => r.key),
      marker: { color: points.map((r) => (r.rho === 0 ? COLOURS.SGD : COLOURS.SAM)) },
      text: points.map((r) => `seed ${r.seed}, ${category(r)}, record ${r.key}`),
      hovertemplate: "%{text}<br>%{y:.2f}%<extra></extra>" },
  ], { title: { text: `Test accuracy (%) at width ${network}` }, margin, yaxis: { title: { text: "%" } },
    xaxis: { categoryorder: "array", categoryarray: order, automargin: true } }, OPTIONS);

  const protocol = data.protocols.includes(rho) ? rho : data.protocols[0];
  const best = data.chosen.filter((row) => row.protocol === protocol).filter(chosen);
  Plotly.react("w-best", [
    { x: best.map((r) => r.parameters), y: best.map((r) => r.rho), mode: "markers", marker: { color: COLOURS.SAM },
      text: best.map((r) => `seed ${r.seed}, width ${r.width}`), hovertemplate: "%{text}<br>ρ* = %{y:.3g}<extra></extra>" },
  ], { title: { text: `Best ρ, chosen by the protocol “${protocol}”` }, xaxis: x, margin,
    yaxis: { title: { text: "ρ*" }, ...logarithmic(best.map((r) => r.rho)) } }, OPTIONS);
}

function startWidth() {
  const data = EXPLORED.width;
  const rhos = unique(data.runs.map((run) => run.rho).filter((rho) => rho > 0));
  const words = { paper: "chosen on what is reported", samples: "chosen on other samples", seeds: "chosen on other seeds",
    both: "chosen on other seeds and samples" };
  fill($("w-rho"), [...rhos.map((rho) => [rho, `fixed at ${rho}`]), ...data.protocols.map((p) => [p, words[p] ?? p])]);
  fill($("w-width"), [["", "all"], ...unique(data.runs.map((r) => r.width)).map((w) => [w, `width ${w}`])]);
  fill($("w-seeds"), [["", "all"], ...unique(data.runs.map((r) => r.seed)).map((s) => [s, `seed ${s} alone`])]);
  for (const id of ["w-rho", "w-width", "w-seeds"]) $(id).addEventListener("input", drawWidth);
  if (rhos.includes(0.05)) $("w-rho").value = "0.05";
  drawWidth();
  toRecord($("w-gap"));
  toRecord($("w-accuracy"));
}

startWidth();
