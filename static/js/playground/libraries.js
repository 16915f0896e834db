// What only some answers need is loaded with the first of them.

const FILES = { hljs: "highlight.min.js", katex: "katex.min.js" };
const asked = new Set();
const waiting = new Set(); // what to do once another one is there

/** The library, or null while it is on its way; `later` runs once it came. */
export function library(name, later) {
  if (globalThis[name]) return globalThis[name];
  waiting.add(later);
  if (!asked.has(name)) load(name);
  return null;
}

function load(name) {
  asked.add(name);
  const script = document.createElement("script");
  script.src = new URL(`../../vendor/${FILES[name]}`, import.meta.url);
  script.addEventListener("load", () => {
    const all = [...waiting];
    waiting.clear();
    for (const later of all) later();
  });
  script.addEventListener("error", () => asked.delete(name)); // the next answer tries again
  document.head.append(script);
}
