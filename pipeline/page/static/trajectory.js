// One attempt: turns by key, and whatever has a second takes the video there.

import { enlarge } from "./frames.js";
import { follow, onKeys } from "./keys.js";
import { seek, toggle } from "./player.js";

const turns = [...document.querySelectorAll("article.turn")];
let current = turns.findIndex((turn) => `#${turn.id}` === location.hash);

function select(number, scroll = true) {
  if (!turns[number]) return;
  turns[current]?.classList.remove("current");
  current = number;
  const turn = turns[number];
  turn.classList.add("current");
  if (scroll) turn.scrollIntoView({ block: "start", behavior: "instant" });
  history.replaceState(null, "", `#${turn.id}`);
  const id = turn.id.replace("turn-", "");
  for (const span of document.querySelectorAll(".timeline .zooms")) {
    span.classList.toggle("current", span.dataset.turn === id);
  }
  const first = turn.querySelector("[data-seek]");
  if (first) seek(Number(first.dataset.seek));
}

function step(by) {
  select(current < 0 ? (by > 0 ? 0 : turns.length - 1) : Math.min(Math.max(current + by, 0), turns.length - 1));
}

function activate(target) {
  const place = target.closest("[data-seek], .point[data-turn]");
  if (!place) return;
  const turn = turns.findIndex((one) => one.id === `turn-${place.dataset.turn}`);
  if (turn >= 0) select(turn, place.closest(".curve") !== null);
  if (place.dataset.seek !== undefined) seek(Number(place.dataset.seek));
  if (place.classList.contains("frame")) enlarge(place);
}

document.addEventListener("click", (event) => activate(event.target));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.closest("g[data-seek]")) activate(event.target);
});
document.querySelector("form.inline select")?.addEventListener("change", (event) => event.target.form.requestSubmit());

onKeys({
  j: () => follow("[rel=next]"),
  k: () => follow("[rel=prev]"),
  ArrowRight: () => follow("[rel=next]"),
  ArrowLeft: () => follow("[rel=prev]"),
  n: () => step(1),
  p: () => step(-1),
  " ": toggle,
  "/": () => location.assign("/#search"),
  Escape: () => follow("#back"),
});

if (current >= 0) select(current);
