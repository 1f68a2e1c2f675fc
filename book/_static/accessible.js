// What the theme and Sphinx leave without a name, or in a list that is none, for those who do not see the page.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  // These are named by the text that they show.
  document.querySelectorAll(".search-button-field, details.toggle-details > summary, details.hide > summary").forEach(
    (named) => named.removeAttribute("aria-label"),
  );
  document.querySelectorAll("button i[class*='fa-']").forEach((icon) => {
    icon.removeAttribute("title");
    icon.setAttribute("aria-hidden", "true");
  });
  // The arrow beside an entry of the contents that has pages below it.
  document.querySelectorAll("li.has-children > details > summary").forEach((summary) => {
    const entry = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${entry ? entry.textContent.trim() : "this part"}`);
  });
  // Parameters of a long signature stand in lines of their own; they describe nothing.
  document.querySelectorAll("dt.sig dl, dt.sig dd").forEach((part) => part.setAttribute("role", "presentation"));
  // The bibliography has targets of links between its entries, so it is no list.
  document.querySelectorAll(".citation-list, .citation-list > *").forEach((part) => part.removeAttribute("role"));
});

/** What scrolls sideways does so by keyboard too. */
function letScroll() {
  document.querySelectorAll(".bd-article table, .bd-article pre, .bd-article mjx-container[display]").forEach((part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  });
}

window.addEventListener("resize", letScroll);
window.addEventListener("load", async () => {
  letScroll();
  if (window.MathJax) await MathJax.startup.promise; // formulas have their width then
  letScroll();
});
