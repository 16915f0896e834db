// On a narrow screen the columns lie side by side and are swiped; the strip names them and goes there.

const strip = document.querySelector("#strip");
const track = document.querySelector("#columns");
const seen = new IntersectionObserver(mark, { root: track, threshold: 0.6 });

export function refreshStrip(columns) {
  strip.hidden = columns.length < 2;
  seen.disconnect();
  strip.replaceChildren(
    ...columns.map((column, index) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "chip", textContent: column.model });
      button.setAttribute("aria-label", `Column ${index + 1}: ${column.model}`);
      button.addEventListener("click", () =>
        column.element.scrollIntoView({ inline: "start", block: "nearest" }),
      );
      seen.observe(column.element);
      return button;
    }),
  );
}

function mark(entries) {
  const elements = [...track.children];
  for (const { target, isIntersecting } of entries) {
    const button = strip.children[elements.indexOf(target)];
    button?.setAttribute("aria-current", String(isIntersecting));
    if (button && isIntersecting)
      strip.scrollTo({ left: button.offsetLeft - strip.offsetLeft - 20 });
  }
}
