// Copying to the clipboard, which browsers give only to pages from this machine or over HTTPS.

const TOLD_MS = 1500;

/** Copy `text`, that of `element` unless given; the button says how it went. Where the clipboard
 * cannot be had, `element` is selected for the keyboard. */
export async function copy(button, element, text = element.textContent) {
  const before = (button.dataset.says ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C";
    getSelection().selectAllChildren(element);
  }
  setTimeout(() => (button.textContent = before), TOLD_MS);
}

// The button of a block of code copies the block.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action=copy]");
  if (button) copy(button, button.closest(".code").querySelector("pre"));
});
