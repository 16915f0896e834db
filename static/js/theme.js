// Runs before the first paint: the kept theme, or the system's when none was chosen, and that scripts run.
(() => {
  document.documentElement.dataset.scripted = "";
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
