// Boxes of code stay reachable by keys: the theme takes that from those that it finds too narrow
// to scroll, and it looks only once.
for (const code of document.querySelectorAll("pre > code")) {
  const keep = () => code.hasAttribute("tabindex") || code.setAttribute("tabindex", "0");
  new MutationObserver(keep).observe(code, { attributeFilter: ["tabindex"] });
}
