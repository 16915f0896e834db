// Answers as Markdown. Raw HTML in them stays text, and what the renderer makes is sanitised besides:
// a model's words, which may be anybody's, run nothing and load nothing.

/* global markdownit, DOMPurify */

import { library } from "./libraries.js";
import { formulas, setFormulas } from "./math.js";

const reader = markdownit("commonmark", { html: false, breaks: true })
  .enable(["table", "strikethrough"])
  .disable("image"); // it would tell another host who reads this

/** A column's alignment as a class: the pages allow no style attributes. */
function cell(tokens, index, options, _env, renderer) {
  const [, align] = /text-align:(\w+)/.exec(tokens[index].attrGet("style")) ?? [];
  tokens[index].attrs = align ? [["class", `align-${align}`]] : null;
  return renderer.renderToken(tokens, index, options);
}
formulas(reader);
Object.assign(reader.renderer.rules, { th_open: cell, td_open: cell });

const LONGEST = 50_000; // characters of code that are coloured
const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr em strong s a code pre blockquote ul ol li".split(" "),
    ..."h1 h2 h3 h4 h5 h6 table thead tbody tr th td".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("uponSanitizeAttribute", (element, data) => {
  if (data.attrName !== "class") return;
  const allowed = {
    CODE: /^(language-[\w+#.-]+|math-(display|inline))$/,
    SPAN: /^hljs-[\w-]+( [\w-]+)*$/,
    TH: /^align-\w+$/,
    TD: /^align-\w+$/,
  };
  data.keepAttr = allowed[element.tagName]?.test(data.attrValue) ?? false;
});

function render(text, later) {
  const fragment = DOMPurify.sanitize(reader.render(text), ALLOWED);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  setFormulas(fragment, later);
  for (const pre of fragment.querySelectorAll("pre")) frame(pre, later);
  // The page's own headings come first.
  for (const heading of fragment.querySelectorAll("h1, h2")) heading.replaceWith(lower(heading));
  return fragment;
}

function lower(heading) {
  const lowered = document.createElement("h3");
  lowered.append(...heading.childNodes);
  return lowered;
}

/** A code block gets its language and a button that copies it. */
function frame(pre, later) {
  const box = document.createElement("div");
  box.className = "code";
  const top = document.createElement("div");
  top.className = "code-top";
  const language = document.createElement("span");
  language.textContent = pre.querySelector("code")?.className.replace("language-", "") || "text";
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "btn small ghost", textContent: "Copy" });
  button.dataset.action = "copy";
  top.append(language, button);
  highlight(pre.querySelector("code"), language.textContent, later);
  pre.tabIndex = 0;
  pre.replaceWith(box);
  box.append(top, pre);
}

const COLOURED = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };
const KEPT = 100;
const coloured = new Map(); // from a language and a text to what it became

/** Colour code in a language that is known; without the library, and of long texts, it stays plain. */
function highlight(code, language, later) {
  const text = code?.textContent ?? "";
  if (language === "text" || text.length > LONGEST) return;
  const hljs = library("hljs", later);
  if (!hljs?.getLanguage(language)) return;
  const key = `${language} ${text}`;
  if (!coloured.has(key)) {
    if (coloured.size >= KEPT) coloured.delete(coloured.keys().next().value);
    const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
    coloured.set(key, DOMPurify.sanitize(value, COLOURED));
  }
  code.replaceChildren(...coloured.get(key).cloneNode(true).childNodes);
}

/** Make `element` show `text`. Blocks that did not change keep their nodes, and so what is selected. */
export function show(element, text) {
  // Once a library came, what is shown is drawn again with it.
  const later = () => element.shownText === text && show(element, text);
  element.shownText = text;
  const next = [...render(text, later).childNodes];
  const now = element.childNodes;
  let same = 0;
  while (same < next.length && same < now.length && now[same].isEqualNode(next[same])) same++;
  while (now.length > same) element.lastChild.remove();
  element.append(...next.slice(same));
}
