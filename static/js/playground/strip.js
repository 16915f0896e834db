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
      Object.assign(button, { type: "button", className: "chip", textContent: column.model || `Column ${index + 1}` });
      button.addEventListener("click", () => column.element.scrollIntoView({ inline: "start", block: "nearest" }));
      seen.observe(column.element);
      return button;
    }),
  );
}

function mark(entries) {
  const elements = [...track.children];
  for (const { target, isIntersecting } of entries) {
    strip.children[elements.indexOf(target)]?.setAttribute("aria-current", String(isIntersecting));
  }
}
