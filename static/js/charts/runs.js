// Other runs laid over a page's charts without a reload: a checked [data-run] adds its link, a [data-curve],
// to the runs that the charts show. The address keeps which, for the page that is rendered whole.

const MOST = 8;

/** The links of the runs that a chart shows: in it, or in the element that its data-runs names. */
export function linksOf(element) {
  const { runs } = element.dataset;
  return [...(runs ? document.querySelector(runs) : element).querySelectorAll("[data-curve]")];
}

function linkOf(box) {
  const link = document.createElement("a");
  link.className = "curve";
  link.href = box.dataset.href;
  link.textContent = box.dataset.label;
  link.dataset.curve = box.dataset.run;
  if (box.dataset.every) link.dataset.every = box.dataset.every;
  return link;
}

function change(box) {
  const place = document.querySelector(box.dataset.runs);
  const known = place.querySelector(`[data-curve="${box.dataset.run}"]`);
  if (!box.checked) known?.remove();
  else if (!known) place.append(linkOf(box));
  place.hidden = false;
  const full = place.childElementCount >= MOST;
  const query = new URLSearchParams(location.search);
  query.delete("with");
  for (const other of document.querySelectorAll(`[data-run][data-runs="${box.dataset.runs}"]`)) {
    other.disabled = full && !other.checked;
    if (other.checked) query.append("with", other.value);
  }
  const search = query.size ? `?${query}` : "";
  history.replaceState(history.state, "", `${location.pathname}${search}${location.hash}`);
  document.dispatchEvent(new CustomEvent("charts:runs"));
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-run]")) change(target);
});
