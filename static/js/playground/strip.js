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
      Object.assign(button, { type: "button", className: "chip", textContent: columns.length > 2 ? shortened(column.model) : column.model });
      button.setAttribute("aria-label", `Column ${index + 1}: ${column.model}`);
      button.addEventListener("click", () => column.element.scrollIntoView({ inline: "start", block: "nearest" }));
      seen.observe(column.element);
      return button;
    }),
  );
}

/** Versions differ at their ends. */
function shortened(name) {
  return name.length > 11 ? `${name.slice(0, 4)}…${name.slice(-6)}` : name;
}

function mark(entries) {
  const elements = [...track.children];
  for (const { target, isIntersecting } of entries) {
    strip.children[elements.indexOf(target)]?.setAttribute("aria-current", String(isIntersecting));
  }
}
