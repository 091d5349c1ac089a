// Keys: one table of actions a page; a key in a field, a button or the player is theirs.

const help = document.getElementById("help");

const typing = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
const pressing = (target) => target.closest("button, summary, video, [role=button]") !== null;

/** Calls `actions[key]` for a key that no field and no open dialog wants. */
export function onKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (event.key === " " && pressing(event.target)) return;
    if (event.key.startsWith("Arrow") && event.target.closest("video")) return;
    const action = event.key === "?" ? () => help.showModal() : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** Follows a link of the page, where there is one. */
export function follow(selector) {
  document.querySelector(selector)?.click();
}

document.querySelector("[data-help]")?.addEventListener("click", () => help.showModal());
