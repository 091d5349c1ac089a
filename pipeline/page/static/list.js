// The list: rows by key, filters that apply when they are chosen, and a search that goes on until it is done.

import { follow, onKeys } from "./keys.js";

const rows = [...document.querySelectorAll(".row")];
const search = document.querySelector("input[name=search]");
const form = document.querySelector("form.query");

function step(by) {
  const now = rows.indexOf(document.activeElement);
  const next = now < 0 ? (by > 0 ? 0 : rows.length - 1) : now + by;
  rows[next]?.focus();
  rows[next]?.scrollIntoView({ block: "nearest" });
}

onKeys({
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  n: () => follow(".pages [rel=next]"),
  p: () => follow(".pages [rel=prev]"),
  "/": () => search.select(),
  Escape: () => follow("#clear"),
});

// An address says only what is not as by default.
form.addEventListener("submit", () => {
  for (const field of form.elements) {
    const idle = field.name === "preset" ? field.value === "default" : field.value === "";
    if (field.name && idle) field.disabled = true;
  }
});
for (const choice of form.querySelectorAll("select")) {
  choice.addEventListener("change", () => form.requestSubmit());
}
window.addEventListener("pageshow", () => {
  for (const field of form.elements) field.disabled = false;
});

// From an attempt back to its row.
if (location.hash === "#search") search.select();
const from = decodeURIComponent(location.hash.slice(1));
rows.find((row) => row.dataset.id === from)?.focus();

if (document.querySelector("[data-searching]")) {
  setTimeout(() => location.reload(), 700);
}
