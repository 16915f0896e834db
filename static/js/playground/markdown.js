// Answers as Markdown. Raw HTML in them stays text, and what the renderer makes is sanitised besides:
// a model's words, which may be anybody's, run nothing and load nothing.

/* global markdownit, DOMPurify */

const reader = markdownit("commonmark", { html: false, breaks: true })
  .enable(["table", "strikethrough"])
  .disable("image"); // it would tell another host who reads this

/** A column's alignment as a class: the pages allow no style attributes. */
function cell(tokens, index, options, _env, renderer) {
  const [, align] = /text-align:(\w+)/.exec(tokens[index].attrGet("style")) ?? [];
  tokens[index].attrs = align ? [["class", `align-${align}`]] : null;
  return renderer.renderToken(tokens, index, options);
}
Object.assign(reader.renderer.rules, { th_open: cell, td_open: cell });

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
  const allowed = { CODE: /^language-[\w+#.-]+$/, TH: /^align-\w+$/, TD: /^align-\w+$/ };
  data.keepAttr = allowed[element.tagName]?.test(data.attrValue) ?? false;
});

function render(text) {
  const fragment = DOMPurify.sanitize(reader.render(text), ALLOWED);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const pre of fragment.querySelectorAll("pre")) frame(pre);
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
function frame(pre) {
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
  pre.tabIndex = 0;
  pre.replaceWith(box);
  box.append(top, pre);
}

/** Make `element` show `text`. Blocks that did not change keep their nodes, and so what is selected. */
export function show(element, text) {
  const next = [...render(text).childNodes];
  const now = element.childNodes;
  let same = 0;
  while (same < next.length && same < now.length && now[same].isEqualNode(next[same])) same++;
  while (now.length > same) element.lastChild.remove();
  element.append(...next.slice(same));
}
