// The records of RUNS (data/runs.js) as rows; the chosen one with its settings and curves.
"use strict";

const byKey = new Map(RUNS.map((run) => [run.key, run]));

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function linked(names, page) {
  return names.flatMap((name, i) => [i ? ", " : "", element("a", { href: page(name), textContent: name })]);
}

function rowOf(run) {
  const accuracy = run.final.test_accuracy;
  const cells = {
    record: [element("a", { href: `#key=${run.key}`, textContent: run.key })],
    what: [(run.kind === "run" ? "" : `${run.kind} of `) + run.words],
    "test accuracy": [accuracy === undefined ? "" : `${(100 * accuracy).toFixed(2)}%`],
    status: [run.status],
    "used by": [run.figures.join(" "), " ", run.claims.join(" ")],
  };
  const row = element("tr", { id: `row-${run.key}` });
  for (const [label, content] of Object.entries(cells)) {
    const cell = element("td", {}, ...content);
    cell.dataset.label = label;
    row.append(cell);
  }
  row.run = run;
  return row;
}

function listed(object) {
  return Object.entries(object).flatMap(([name, value]) => [
    element("dt", { textContent: name }), element("dd", { textContent: String(value) }),
  ]);
}

function show(run) {
  const box = document.getElementById("record");
  const home = (name) => FIGURES[name] ? `notebooks/${FIGURES[name]}.html#${name}` : "gallery.html";
  box.replaceChildren(
    element("h2", { textContent: run.key }),
    element("p", { textContent: (run.kind === "run" ? "" : `${run.kind} of `) + run.words + "." }),
    element("p", {}, "Figures: ", ...linked(run.figures, home), ". Claims: ",
      ...linked(run.claims, (name) => `claims.html#${name}`), "."),
    element("p", {}, "In a terminal: ", element("code", { textContent: `python -m lib.runs show ${run.key}` })),
    ...(run.of ? [element("p", {}, "Measured on ", ...linked([run.of], (key) => `#key=${key}`), ".")] : []),
    element("div", { id: "curves", className: "drawing" }),
    element("details", { open: true }, element("summary", { textContent: "numbers at the end" }),
      element("dl", {}, ...listed(run.final))),
    element("details", {}, element("summary", { textContent: "settings that differ from the defaults" }),
      element("pre", { textContent: JSON.stringify(run.settings, null, 1) })),
    element("details", {}, element("summary", { textContent: "made by" }), element("dl", {}, ...listed(run.origin))),
  );
  const curves = Object.entries(run.curves).filter(([, values]) => values.some((value) => value !== null));
  if (!curves.length) return document.getElementById("curves").remove();
  const accuracy = (name) => name.endsWith("accuracy");
  Plotly.newPlot("curves", curves.map(([name, values]) => ({
    x: run.epochs, y: values, name: name.replace("_", " "), yaxis: accuracy(name) ? "y2" : "y",
    line: { color: name.startsWith("test") ? "#D55E00" : "#0072B2", dash: accuracy(name) ? "dot" : "solid" },
  })), {
    margin: { l: 55, r: 55, t: 10, b: 40 }, legend: { orientation: "h", y: 1.15 },
    xaxis: { title: { text: "epoch" } }, yaxis: { title: { text: "loss" }, type: "log" },
    yaxis2: { title: { text: "accuracy" }, overlaying: "y", side: "right", showgrid: false },
  }, { responsive: true, displaylogo: false });
}

function follow() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const table = document.getElementById("table-of-runs");
  const [figure, claim, key] = ["figure", "claim", "key"].map((name) => wanted.get(name));
  document.getElementById("only").textContent =
    figure ? `The records behind figure ${figure}. ` : claim ? `The records behind the claim ${claim}. ` : "";
  if (figure || claim) table.only = (row) => row.run.figures.includes(figure) || row.run.claims.includes(claim);
  else if (!key) table.only = null;
  document.querySelector(".filters").dispatchEvent(new Event("input"));
  if (key && byKey.has(key)) {
    show(byKey.get(key));
    document.getElementById("record").scrollIntoView();
  }
}

document.querySelector("#table-of-runs tbody").append(...RUNS.map(rowOf));
document.addEventListener("DOMContentLoaded", follow);
addEventListener("hashchange", follow);
