// The video and its timeline.

const video = document.getElementById("video");
const playhead = document.getElementById("playhead");
const fault = document.getElementById("video-fault");

/** Shows a second of the video. */
export function seek(seconds) {
  if (video) video.currentTime = Math.max(0, seconds);
}

export function toggle() {
  if (!video) return;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function follow() {
  if (!video || !playhead || !video.duration) return;
  const at = `${(100 * video.currentTime) / video.duration}%`;
  playhead.setAttribute("x1", at);
  playhead.setAttribute("x2", at);
}

/** Says in one line why the video does not play. */
async function explain() {
  let line = `This browser cannot play ${video.dataset.codec}. The frames are decoded by Zoomtrail.`;
  try {
    const answer = await fetch(video.src, { headers: { Range: "bytes=0-0" } });
    if (!answer.ok) line = (await answer.json()).error;
  } catch {
    line = "The page's server does not answer: is `zoomtrail view` still running?";
  }
  fault.textContent = line;
  fault.hidden = false;
  video.hidden = true;
}

if (video) {
  for (const event of ["timeupdate", "seeking", "seeked", "loadedmetadata"]) video.addEventListener(event, follow);
  video.addEventListener("play", function frame() {
    follow();
    if (!video.paused) requestAnimationFrame(frame);
  });
  video.addEventListener("error", explain);
  if (video.error) explain();
}
