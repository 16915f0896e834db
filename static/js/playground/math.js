// Formulas in Markdown: $…$, $$…$$, \(…\) and \[…\], as MathML, which the browser sets by itself.

/* global DOMPurify */

import { library } from "./libraries.js";

const KEPT = 200;
const made = new Map(); // from a formula to its MathML
const INLINE =
  /^\\\(([\s\S]+?)\\\)|^\$((?:\d[^\s$]*[-=+*/^_\\][^\s$]*|(?![\s$\d])(?:\\.|[^\\$])+?))(?<!\s)\$(?![\d\w])/;
const DISPLAY = /^(?:\\\[([\s\S]+?)\\\]|\$\$([\s\S]+?)\$\$)/;

/** Teaches a markdown-it reader formulas: they become <code class="math-…"> with their TeX. */
export function formulas(reader) {
  reader.inline.ruler.before("escape", "formula", (state, silent) => {
    const start = state.src[state.pos];
    if (start !== "$" && start !== "\\") return false;
    const rest = state.src.slice(state.pos);
    const display = DISPLAY.exec(rest);
    const found = display ?? INLINE.exec(rest);
    if (!found) return false;
    if (!silent) {
      const token = state.push("code_inline", "code", 0);
      token.attrSet("class", display ? "math-display" : "math-inline");
      token.content = (found[1] ?? found[2]).trim();
    }
    state.pos += found[0].length;
    return true;
  });
  // A formula of several lines is one paragraph, whatever its lines look like.
  reader.block.ruler.before(
    "fence",
    "formula",
    (state, first, last, silent) => {
      const at = (line) =>
        state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]);
      const open = at(first).startsWith("$$") ? "$$" : at(first).startsWith("\\[") ? "\\[" : "";
      if (!open) return false;
      const close = open === "$$" ? "$$" : "\\]";
      let line = first;
      const closes = (text, from) => text.indexOf(close, from) >= 0;
      if (!closes(at(first), open.length)) {
        do line += 1;
        while (line < last && !closes(at(line), 0));
      }
      if (line >= last || !at(line).trimEnd().endsWith(close)) return false;
      if (silent) return true;
      const text = state.getLines(first, line + 1, state.blkIndent, false).trim();
      state.line = line + 1;
      state.push("paragraph_open", "p", 1);
      const token = state.push("inline", "", 0);
      Object.assign(token, { content: text, map: [first, line + 1], children: [] });
      state.push("paragraph_close", "p", -1);
      return true;
    },
    { alt: ["paragraph"] },
  );
}

/** Set the formulas in `fragment`; while KaTeX is on its way, and where a formula is wrong, TeX stays. */
export function setFormulas(fragment, later) {
  for (const code of fragment.querySelectorAll("code[class^=math-]")) {
    const katex = library("katex", later);
    if (!katex) return;
    const found = mathml(katex, code.textContent, code.className === "math-display");
    if (found) code.replaceWith(framed(found.cloneNode(true)));
  }
}

/** A formula on lines of its own may be wider than its column; then the keyboard scrolls it. */
function framed(math) {
  if (math.getAttribute("display") !== "block") return math;
  const frame = document.createElement("span");
  frame.className = "formula";
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "Formula");
  frame.append(math);
  return frame;
}

function mathml(katex, tex, displayMode) {
  const key = `${displayMode} ${tex}`;
  if (!made.has(key)) {
    if (made.size >= KEPT) made.delete(made.keys().next().value);
    made.set(key, render(katex, tex, displayMode));
  }
  return made.get(key);
}

function render(katex, tex, displayMode) {
  let html;
  try {
    const options = { displayMode, output: "mathml", strict: "ignore", trust: false };
    html = katex.renderToString(tex, { ...options, maxExpand: 200, maxSize: 20 });
  } catch {
    return null;
  }
  // The TeX within it is for other programs; and pages allow no styles in attributes.
  const bare = html
    .replace(/<annotation[\s\S]*?<\/annotation>/g, "")
    .replace(/ style="[^"]*"/g, "");
  const clean = DOMPurify.sanitize(bare, {
    USE_PROFILES: { mathMl: true },
    FORBID_ATTR: ["style", "href"],
    RETURN_DOM_FRAGMENT: true,
  });
  return clean.querySelector("math");
}
