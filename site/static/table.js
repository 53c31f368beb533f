// Tables that a reader sorts by a click on a heading and filters by words or by a choice. Rows are in the page.
"use strict";

const collator = new Intl.Collator("en", { numeric: true });

function sortBy(table, index) {
  const head = table.tHead.rows[0].cells[index];
  const descending = head.ariaSort === "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.ariaSort = descending ? "descending" : "ascending";
  const rows = [...table.tBodies[0].rows];
  const text = (row) => row.cells[index].textContent.trim();
  rows.sort((a, b) => {
    const [one, other] = [text(a), text(b)];
    if (!one || !other) return !one - !other; // the empty last, whichever way
    return (descending ? -1 : 1) * collator.compare(one, other);
  });
  table.tBodies[0].append(...rows);
}

function filter(box, table) {
  const words = box.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  const choices = [...box.querySelectorAll("select")].filter((select) => select.value);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word)) &&
      choices.every((select) => row.dataset[select.dataset.field] === select.value) &&
      (!table.only || table.only(row));
    row.hidden = !fits;
    row.style.display = fits ? "" : "none";
    shown += fits;
  }
  box.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length}`;
}

function showTarget() {
  const row = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = row && row.closest("table.sortable") && row.querySelector("details");
  if (details) {
    details.open = true;
    row.scrollIntoView({ block: "center" });
  }
}

function makeTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      cell.firstElementChild.addEventListener("click", () => sortBy(table, index));
    });
  }
  for (const box of document.querySelectorAll(".filters")) {
    const table = document.getElementById(box.dataset.table);
    box.addEventListener("input", () => filter(box, table));
    filter(box, table);
  }
  showTarget();
}

document.addEventListener("DOMContentLoaded", makeTables);
addEventListener("hashchange", showTarget);
