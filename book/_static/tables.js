// Tables of results: a click on the head of a column sorts by it, up, down, and back; only long texts break into lines.
"use strict";

const LONG = 32; // characters
const TURNS = { none: "ascending", ascending: "descending", descending: "none" };

/** The number that a cell begins with, or NaN: "+2.78 [+1.89, +3.67]" is 2.78, "2,343" is 2343. */
function leadingNumber(text) {
  const found = text.trim().match(/^[-+\u2212]?\d[\d,]*(\.\d+)?/);
  return found ? Number(found[0].replace("\u2212", "-").replaceAll(",", "")) : NaN;
}

/** Compares two texts of a column: numbers by size if all of its texts begin with one, else words; empty ones last. */
function comparing(texts) {
  const numbers = texts.filter((text) => text.trim()).every((text) => !Number.isNaN(leadingNumber(text)));
  return (a, b) => {
    if (!a.trim() || !b.trim()) return Number(!a.trim()) - Number(!b.trim());
    return numbers ? leadingNumber(a) - leadingNumber(b) : a.localeCompare(b, undefined, { numeric: true });
  };
}

/** The rows in the order of one column; empty cells stay last both ways. */
function sorted(rows, column, turn) {
  const text = (row) => row.cells[column].textContent;
  const compare = comparing(rows.map(text));
  const sign = turn === "descending" ? -1 : 1;
  const order = (a, b) => (text(a).trim() && text(b).trim() ? sign : 1) * compare(text(a), text(b));
  return [...rows].sort(order);
}

/** Makes the heads of one table buttons. Tables whose rows share cells keep their order. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = table.tHead && [...table.tHead.rows[0].cells];
  const rows = body ? [...body.rows] : [];
  const regular = heads && rows.every((row) => row.cells.length === heads.length);
  if (!regular || rows.length < 2) return;
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "kd-sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = TURNS[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (turn !== "none") head.setAttribute("aria-sort", turn);
      body.append(...(turn === "none" ? rows : sorted(rows, column, turn)));
    });
  });
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.dataframe")) {
    for (const cell of table.querySelectorAll("td, tbody th")) {
      cell.classList.toggle("kd-long", cell.textContent.length > LONG);
    }
    makeSortable(table);
  }
});
