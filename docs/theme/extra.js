// Boxes that scroll can be reached by keys: the theme makes those of tables without that, and takes
// it from boxes of code that it found wide enough once.
const reach = () =>
  document
    .querySelectorAll(".md-typeset__scrollwrap:not([tabindex]), pre > code:not([tabindex])")
    .forEach((box) => box.setAttribute("tabindex", "0"));
new MutationObserver(reach).observe(document.body, {
  attributeFilter: ["tabindex"],
  childList: true,
  subtree: true,
});
reach();
