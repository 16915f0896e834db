// Copying to the clipboard, which browsers give only to pages from this machine or over HTTPS.

const SHOWN_MS = 1500;

/** Copy `text` (by default the text of `element`) and show the result on the button. Where the
 * clipboard is not available, `element` is selected so that the keyboard can copy it. */
export async function copy(button, element, text = element.textContent) {
  button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C";
    getSelection().selectAllChildren(element);
  }
  setTimeout(() => {
    button.textContent = button.dataset.label;
  }, SHOWN_MS);
}

// The button of a block of code copies the block.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action=copy]");
  if (button) copy(button, button.closest(".code").querySelector("pre"));
});

// Ctrl+C in a block of code that has the focus copies all of it, unless a part is selected.
document.addEventListener("copy", (event) => {
  const block = event.target.closest?.(".code pre");
  if (!block || !getSelection().isCollapsed) return;
  event.clipboardData.setData("text/plain", block.textContent);
  event.preventDefault();
});
