// Frames: one large on a click, and the reason where one cannot be shown.

const large = document.getElementById("large");
const summary = document.getElementById("frame-fault");
let lost = 0;

/** Puts the reason in a frame's place. */
async function explain(picture) {
  const frame = picture.closest(".frame");
  if (!frame || frame.classList.contains("lost")) return;
  frame.classList.add("lost");
  const why = document.createElement("span");
  why.className = "why";
  frame.append(why);
  try {
    const answer = await fetch(picture.src);
    why.textContent = answer.ok ? "cannot be drawn" : (await answer.json()).error;
    frame.title = why.textContent;
    if (answer.status === 409) warn(why.textContent);
  } catch {
    why.textContent = "no answer";
  }
}

function warn(line) {
  lost += 1;
  summary.hidden = false;
  summary.textContent = lost === 1 ? `A frame is not the one that was recorded: ${line}` : `${lost} frames are not those that were recorded; the first reason stands in its place.`;
}

for (const picture of document.querySelectorAll(".frame img")) {
  picture.addEventListener("error", () => explain(picture));
  if (picture.complete && picture.naturalWidth === 0 && picture.src) explain(picture);
}

/** Shows a frame large. */
export function enlarge(frame) {
  const picture = frame.querySelector("img");
  if (!picture || frame.classList.contains("lost")) return;
  large.querySelector("img").src = picture.src;
  large.querySelector("p").textContent = `${picture.alt}, ${frame.querySelector(".when").firstChild.textContent}, ${picture.getAttribute("width")} × ${picture.getAttribute("height")} as the model saw it`;
  large.showModal();
}

large.addEventListener("click", () => large.close());
large.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1, j: 1, k: -1 }[event.key];
  if (!by) return;
  const frames = [...document.querySelectorAll(".frame:not(.lost)")];
  const now = frames.findIndex((frame) => frame.querySelector("img")?.src === large.querySelector("img").src);
  const next = frames[now + by];
  if (!next) return;
  event.preventDefault();
  large.close();
  next.click();
});
