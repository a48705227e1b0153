"use strict";
/* Sorts a table by the column whose heading is chosen. Numbers sort in descending order first,
   names in ascending order; cells without a number stay last. */
const numeric = (cell) => Number(cell.textContent.replace(/,/g, "").replace("\u2212", "-"));
const orders = { ascending: 1, descending: -1 };

function compare(a, b, sign) {
  if (a.tagName === "TH") {
    return sign * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  }
  const [x, y] = [numeric(a), numeric(b)];
  return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
}

function sort(table, header) {
  const first = header.cellIndex ? "descending" : "ascending";
  const other = header.cellIndex ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const cell = (row) => row.cells[header.cellIndex];
  const rows = [...table.tBodies[0].rows];
  table.tBodies[0].append(...rows.sort((a, b) => compare(cell(a), cell(b), orders[order])));
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}
