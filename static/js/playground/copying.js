// Copying answers and code.

const TOLD_MS = 1500;

/** Copy `text`; the button says how it went. */
export async function copy(text, button) {
  const tell = (said) => {
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), TOLD_MS);
  };
  await navigator.clipboard.writeText(text).then(() => tell("Copied"), () => tell("Not allowed"));
}

// The button of a code block copies the block.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action=copy-code]");
  if (button) copy(button.closest(".code").querySelector("pre").textContent, button);
});
