"use strict";

// Each point of a front plot carries its description as an SVG <title>: without this script the browser shows it.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("role", "status");
document.body.append(tip);

function show(mark) {
  tip.textContent = mark.dataset.text;
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const left = Math.min(box.right + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left) + scrollX}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 8) + scrollY}px`;
  light(mark, true);
}

function hide(mark) {
  tip.hidden = true;
  light(mark, false);
}

function light(mark, on) {
  const row = document.getElementById(mark.dataset.row);
  if (row) row.classList.toggle("lit", on);
}

for (const mark of document.querySelectorAll(".plot [data-row]")) {
  const title = mark.querySelector("title");
  mark.dataset.text = title.textContent;
  mark.setAttribute("aria-label", title.textContent);
  mark.setAttribute("tabindex", "0");
  mark.setAttribute("role", "img");
  title.remove();
  for (const event of ["pointerenter", "focus"]) mark.addEventListener(event, () => show(mark));
  for (const event of ["pointerleave", "blur"]) mark.addEventListener(event, () => hide(mark));
}

function sort(heading) {
  const table = heading.closest("table");
  const index = [...heading.parentElement.children].indexOf(heading);
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows];
  const value = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
  const number = (text) => (text === "" ? Infinity : Number(text));
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = heading.classList.contains("text") ? x.localeCompare(y) : number(x) - number(y);
    return descending ? -order : order;
  });
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const heading of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sort(heading));
  heading.append(button);
}

for (const line of document.querySelectorAll(".commands li")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(line.querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    navigator.clipboard?.writeText(line.querySelector("code").textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  });
  line.append(button);
}
